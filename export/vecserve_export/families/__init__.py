"""Model families: how each kind of checkpoint becomes a plan of graphs.

`registry` names the families; each has a module of its own with `plan` and
`write_untrained`. The other modules are what they share.
"""
