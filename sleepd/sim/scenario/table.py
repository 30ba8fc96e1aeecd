"""The table of everything that can happen in a scenario. A new fault is a file with deeds and a line here."""

from sleepd.sim.scenario import (
    adapters,
    crowds,
    faults_daemon,
    faults_engine,
    faults_host,
    faults_strangers,
    faults_units,
    holders,
    jobs,
    people,
    reloads,
)
from sleepd.sim.scenario.deed import Arguments, Deed

PEOPLE: tuple[Deed, ...] = (*people.DEEDS, *holders.DEEDS, *jobs.DEEDS, *adapters.DEEDS)
FAULTS: tuple[Deed, ...] = (
    *faults_engine.DEEDS,
    *faults_strangers.DEEDS,
    *faults_host.DEEDS,
    *faults_daemon.DEEDS,
)
UNIT_FAULTS: tuple[Deed, ...] = faults_units.DEEDS
"""What befalls units: drawn where sleepd controls any."""
CROWDS: tuple[Deed, ...] = crowds.DEEDS
"""Who comes to crowded hosts: drawn for them alone."""
HARDSHIPS: tuple[Deed, ...] = (*crowds.RUDE, *reloads.DEEDS)
"""What makes turns harder there: drawn apart, each for a part of the crowds."""
DEEDS = {deed.name: deed for deed in (*PEOPLE, *FAULTS, *UNIT_FAULTS, *CROWDS, *HARDSHIPS)}

__all__ = ["CROWDS", "DEEDS", "FAULTS", "HARDSHIPS", "PEOPLE", "UNIT_FAULTS", "Arguments", "Deed"]
