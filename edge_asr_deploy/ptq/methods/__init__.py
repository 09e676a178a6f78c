"""One file per method, each a pure function (weight, statistics, spec) -> QuantizedWeight."""
