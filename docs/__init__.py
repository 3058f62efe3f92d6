"""The documentation: pages, notebooks, and what makes a site of them."""
