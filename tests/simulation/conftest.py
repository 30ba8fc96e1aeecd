import pytest

from sleepd.sim.scenario.play import Outcome
from tests.simulation.tally import Tell


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Count a played scenario for the lines at the end of the run, from whichever worker process."""

    def count(outcome: Outcome) -> None:
        request.node.user_properties.append(("played", (1, outcome.transitions, dict(outcome.checked))))

    return count
