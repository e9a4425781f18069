"""The VLA: a vision-language model that says what it sees and does, and plans by what it said."""
