"""A made world and a simulated LLM, so that the whole loop runs on a laptop without a model hub and without a GPU."""
