"""MLPerf LoadGen asks our server through our Python client."""
