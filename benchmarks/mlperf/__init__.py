"""Benchmark by MLPerf LoadGen, with our Python client and server as the system under test.

    __main__     the command: one JSON and one table
    scenarios    SingleStream, Offline and Server for one model
    sut          the system under test: how each scenario's samples reach the client
    loadgen      one run of LoadGen, and its logs
    ledger       the samples issued and answered in a run
    accuracy     cosine of LoadGen's logged vectors to `client.embed`'s

Its figures are not MLPerf submissions: benchmarks/README.md says why.
"""
