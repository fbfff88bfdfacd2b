import networkx as nx
import pytest

from universality.service.states import ENDED, TRANSITIONS, Action, State, after


def graph() -> nx.MultiDiGraph:
    found = nx.MultiDiGraph()
    found.add_nodes_from(State)
    found.add_edges_from((state, to, {"action": action}) for (state, action), to in TRANSITIONS.items())
    return found


def test_every_state_is_reached_from_waiting_and_leads_to_an_end():
    assert nx.descendants(graph(), State.WAITING) | {State.WAITING} == set(State)
    for state in set(State) - ENDED:
        assert nx.descendants(graph(), state) & ENDED


def test_nothing_leads_out_of_done_and_only_a_user_out_of_another_end():
    assert not list(graph().successors(State.DONE))
    for state in ENDED:
        assert {data["action"] for _, _, data in graph().out_edges(state, data=True)} <= {Action.RETRY}


def test_a_job_is_claimed_only_while_it_waits():
    assert [state for state in State if after(state, Action.CLAIM)] == [State.WAITING]


@pytest.mark.parametrize("action", Action)
def test_an_action_leads_to_one_state(action):
    assert len({to for (_, known), to in TRANSITIONS.items() if known is action}) == 1
