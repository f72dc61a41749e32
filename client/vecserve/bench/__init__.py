"""Measures servers of embeddings, side by side: `vecserve bench`.

    load, workload     what is sent, when, by how many callers
    targets            what is measured: our typed API, any OIP server, any command
    typed, oip         the two wires: encoded requests out, verdicts on answers in
    drive, streams     closed and open loops, unary or over streams
    worker, workers    each client process, and the pipe that leads it
    measure, sweep     rounds that go around all targets in turn; the search for a rate
    statistics         exact percentiles, intervals over rounds, ratios within a round
    environment, processes   the machine's stamp; a server's CPU time and memory
    report, plots      tables, JSON, PNG, one HTML page

A request's clock starts when it was meant to be sent, whatever held it back
(Gil Tene's "coordinated omission"); refused and failed items are counted, and
never enter a latency.
"""
