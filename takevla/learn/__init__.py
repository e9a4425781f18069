"""What is learned: pretraining, supervised fine-tuning, dreaming."""
