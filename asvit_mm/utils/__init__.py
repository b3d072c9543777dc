"""Small things that everything uses: files written whole or not at all, numbers as people write them."""
