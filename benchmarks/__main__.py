"""`make bench`: what the loop costs, measured on this machine in one run, as a table."""

from benchmarks.loop import measure

if __name__ == "__main__":
    measure()
