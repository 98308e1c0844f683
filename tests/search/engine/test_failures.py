"""Deaths of a trial's process: its own, or those of the machine that it ran on."""

from ray.exceptions import ActorUnavailableError

from search.engine.failures import Deaths


def test_a_death_on_a_machine_that_runs_on_is_the_trials_own() -> None:
    deaths = Deaths(living=lambda: {"a", "b"})
    deaths.runs_on("trial", "a")
    assert deaths.died("trial", "Worker unexpectedly exits") == 1
    deaths.runs_on("trial", "b")
    assert deaths.died("trial", "Worker unexpectedly exits") == 2
    assert deaths.died("other", "Worker unexpectedly exits") == 1


def test_a_death_with_its_machine_is_not() -> None:
    deaths = Deaths(living=lambda: {"a"})
    deaths.runs_on("trial", "lost")
    assert deaths.died("trial", "Worker unexpectedly exits") == 0
    # Nothing had been heard of it from its next machine; Ray knows what became of that.
    assert deaths.died("trial", "The actor died because its node has died. Node Id: b") == 0


def test_a_machine_that_does_not_answer_is_not_the_trials_fault() -> None:
    deaths = Deaths(lambda: {"a", "b"})
    deaths.runs_on("trial", "b")
    # As Ray words an ActorUnavailableError.
    assert deaths.died("trial", str(ActorUnavailableError("RpcError: keepalive watchdog timeout", b"\xab" * 16))) == 0
    deaths.runs_on("trial", "b")
    assert deaths.died("trial", "The actor died unexpectedly") == 1


def test_a_death_is_forgiven_once_its_machine_is_missed() -> None:
    living = {"a", "b"}
    deaths = Deaths(living=lambda: living)
    deaths.runs_on("trial", "a")
    assert deaths.died("trial", "Worker unexpectedly exits") == 1
    living.remove("a")
    deaths.runs_on("trial", "b")
    assert deaths.died("trial", "Worker unexpectedly exits") == 1


def test_a_process_that_died_before_anything_was_heard_of_it_counts() -> None:
    assert Deaths(living=set).died("trial", "the actor's constructor failed") == 1
