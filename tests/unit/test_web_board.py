"""The board behind the page: newest states, bounded memory, nothing missed, nobody waited for."""

import asyncio
import json

from streamer.web.board import MOST_PICKS, Board, Message


def pick(name: str, rev: int = 0) -> dict[str, str]:
    return {"id": name, "rev": str(rev)}


async def heard(board: Board, after: int, count: int) -> list[Message]:
    messages: list[Message] = []
    async with asyncio.timeout(5):
        async for message in board.listen(after):
            messages.append(message)
            if len(messages) == count:
                break
    return messages


def test_only_newer_states_are_news() -> None:
    board = Board()
    for state in (pick("a"), pick("a", 1), pick("a"), pick("a", 1), pick("b")):
        board.add_pick(state)
    assert [p["rev"] for p in board.snapshot()["picks"]] == ["1", "0"]
    assert board.snapshot()["number"] == 3
    board.add_event({"id": "e", "version": 2})
    board.add_event({"id": "e", "version": 1})
    assert board.snapshot()["events"] == [{"id": "e", "version": 2}]


def test_memory_is_bounded() -> None:
    board = Board()
    for number in range(MOST_PICKS + 10):
        board.add_pick(pick(str(number)))
    picks = board.snapshot()["picks"]
    assert len(picks) == MOST_PICKS
    assert picks[0]["id"] == "10"


def test_who_comes_back_gets_what_was_missed_and_then_what_comes() -> None:
    async def scene() -> list[Message]:
        board = Board()
        for name in "abc":
            board.add_pick(pick(name))
        listening = asyncio.create_task(heard(board, after=1, count=3))
        await asyncio.sleep(0)
        board.set_stations({"XX.A": {"gaps": 1}})
        return await listening

    messages = asyncio.run(scene())
    assert [m.number for m in messages] == [2, 3, 4]
    assert messages[-1].kind == "stations"
    lines = messages[0].text().splitlines()
    assert lines[:2] == ["id: 2", "event: pick"]
    assert json.loads(lines[2].removeprefix("data: ")) == pick("b")


def test_a_listener_that_lags_is_let_go() -> None:
    """Others are served on, and memory does not grow."""

    async def scene() -> int:
        board, count = Board(), 0
        listener = board.listen(0)
        board.add_pick(pick("first"))
        await anext(listener)
        waiting = asyncio.ensure_future(anext(listener))
        await asyncio.sleep(0)
        for number in range(5000):
            board.add_pick(pick(str(number)))
        await waiting
        async for _ in listener:
            count += 1
        return count

    assert asyncio.run(scene()) < 1001


def test_closing_ends_all_listeners() -> None:
    async def scene() -> list[Message]:
        board = Board()
        listening = asyncio.create_task(heard(board, after=0, count=9))
        await asyncio.sleep(0)
        board.close()
        return await listening

    assert asyncio.run(scene()) == []
