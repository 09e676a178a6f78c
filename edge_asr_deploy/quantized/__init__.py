"""A weight as it is stored: integer codes, scales, outliers, and how its input is rounded. numpy only."""
