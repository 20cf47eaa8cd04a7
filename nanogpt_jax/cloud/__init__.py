"""Texts that other machines read: scripts of Slurm, JobSets, SkyPilot tasks, calls of gcloud.

Everything here is text made from a few values; who sends it where is the business of the command
(`__main__`) and of the launchers in sweep/. None of it has run on a cloud.
"""
