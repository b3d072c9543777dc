"""Images: what ``--data`` means, batches to measure on, image sets that packages ship, composed scenes."""
