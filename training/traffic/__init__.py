"""Simulated login traffic: good users, their apps, service accounts, and those who attack them.

`python -m traffic --seed 11 --users 5000 --days 110 --out FILE` writes login events in time order, in the columns of
the public RBA data set and a few of our own (`event.COLUMNS`). Everything follows from the seed and the plan file;
nothing is downloaded. What such data cannot show is said in training/README.md.
"""
