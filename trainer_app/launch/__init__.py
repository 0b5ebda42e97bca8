"""What a laptop does: render the chart, create the run, follow it. Never imports torch, lightning or ray."""
