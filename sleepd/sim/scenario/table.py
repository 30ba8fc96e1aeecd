"""The table of everything that can happen in a scenario. A new fault is a file with deeds and a line here."""

from sleepd.sim.scenario import faults_daemon, faults_engine, faults_host, faults_strangers, holders, jobs, people
from sleepd.sim.scenario.deed import Arguments, Deed

PEOPLE: tuple[Deed, ...] = (*people.DEEDS, *holders.DEEDS, *jobs.DEEDS)
FAULTS: tuple[Deed, ...] = (
    *faults_engine.DEEDS,
    *faults_strangers.DEEDS,
    *faults_host.DEEDS,
    *faults_daemon.DEEDS,
)
DEEDS = {deed.name: deed for deed in (*PEOPLE, *FAULTS)}

__all__ = ["DEEDS", "FAULTS", "PEOPLE", "Arguments", "Deed"]
