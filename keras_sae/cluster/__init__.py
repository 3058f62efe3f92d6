"""Training past one machine: rows on the actors of a Ray cluster, which sum over them where they are."""
