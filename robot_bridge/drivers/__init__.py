"""Drivers: what moves an arm and takes its pictures. Import the driver you need from its own module.

Nothing heavy is imported here: a station for a real arm must start without a simulator installed.
"""
