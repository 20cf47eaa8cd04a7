"""Data: sources give documents, the store keeps their tokens, the pipeline makes batches."""
