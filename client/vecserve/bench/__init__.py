"""Benchmark of embedding servers, side by side: `vecserve bench`.

    options            command-line values, parsed
    load, workload     items, form, arrivals and concurrency; seeded texts and token ids
    targets            servers under test: our typed API, any OIP server, any command
    wire, typed, oip   wire protocols: requests encoded, answers read
    driver, streams    load generator: closed and open loops, unary or over streams
    worker, workers    a target's client processes, and the pipes to them
    samples            send and answer times of a round's requests
    measure, sweep     rounds interleaved over targets; the search for the highest rate
    statistics         exact percentiles, intervals over rounds, ratios within a round
    environment, processes   machine and versions; a server's CPU time and memory
    report, plots      tables, JSON, PNG, one HTML page

Latency counts from the intended send time, whatever delayed the request
(Gil Tene's "coordinated omission"); refused and failed items are counted, and
never enter a latency.
"""
