"""Methods that learn on whole blocks: their objective and a block's parts."""
