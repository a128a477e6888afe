"""What grows from what one person does: pure arithmetic over the last few interactions."""

from learners.knowledge.graph_growth import GrowthConfig, Step, grow, node

MINUTE = 60_000


def grown(
    *steps: Step, categories: dict[str, str] | None = None, config: GrowthConfig | None = None
) -> dict[tuple[str, str, str], float]:
    found: dict[tuple[str, str, str], float] = {}
    for number, step in enumerate(steps):
        for delta in grow(steps[:number], step, category_of=(categories or {}).get, config=config or GrowthConfig()):
            key = (delta.source.removeprefix("item:"), delta.relation, delta.target.removeprefix("item:"))
            found[key] = found.get(key, 0.0) + delta.weight
    return {key: weight for key, weight in found.items() if weight}


def test_what_is_looked_at_together_is_joined_both_ways_and_only_within_the_window() -> None:
    found = grown(Step("a", "view", 0), Step("b", "click", 10 * MINUTE), Step("c", "cart", 35 * MINUTE))

    assert found == {
        ("a", "co_view", "b"): 1.0,
        ("b", "co_view", "a"): 1.0,
        ("b", "co_view", "c"): 1.0,
        ("c", "co_view", "b"): 1.0,
    }
    assert grown(Step("a", "view", 0), Step("a", "view", 1)) == {}
    assert grown(Step("a", "impression", 0), Step("b", "view", 1)) == {}


def test_what_is_bought_together_is_joined_and_completes_each_other_across_categories() -> None:
    categories = {"tea": "category:Tea", "mug": "category:Mugs", "cup": "category:Mugs"}
    found = grown(
        Step("tea", "purchase", 0),
        Step("mug", "purchase", MINUTE),
        Step("cup", "purchase", 2 * MINUTE),
        categories=categories,
    )

    assert {(one, other) for one, relation, other in found if relation == "co_purchase"} == {
        ("tea", "mug"),
        ("mug", "tea"),
        ("tea", "cup"),
        ("cup", "tea"),
        ("mug", "cup"),
        ("cup", "mug"),
    }
    assert {(one, other) for one, relation, other in found if relation == "complements"} == {
        ("tea", "mug"),
        ("mug", "tea"),
        ("tea", "cup"),
        ("cup", "tea"),
    }
    assert not any(relation == "substitutes" for _, relation, _ in found)


def test_what_was_passed_over_for_another_of_its_kind_is_a_substitute() -> None:
    categories = {"mug": "category:Mugs", "cup": "category:Mugs", "tea": "category:Tea"}
    found = grown(
        Step("mug", "view", 0),
        Step("tea", "view", MINUTE),
        Step("cup", "view", 2 * MINUTE),
        Step("cup", "purchase", 3 * MINUTE),
        categories=categories,
    )
    substitutes = {key: weight for key, weight in found.items() if key[1] == "substitutes"}
    assert substitutes == {("cup", "substitutes", "mug"): 1.0, ("mug", "substitutes", "cup"): 1.0}


def test_who_buys_both_after_all_takes_back_that_one_stood_for_the_other() -> None:
    categories = {"mug": "category:Mugs", "cup": "category:Mugs"}
    found = grown(
        Step("mug", "view", 0),
        Step("cup", "view", MINUTE),
        Step("cup", "purchase", 2 * MINUTE),
        Step("mug", "purchase", 3 * MINUTE),
        categories=categories,
    )
    assert not any(relation == "substitutes" for _, relation, _ in found)
    assert found["cup", "co_purchase", "mug"] == 1.0


def test_queries_lead_to_what_follows_them_and_purchases_weigh_more() -> None:
    found = grown(
        Step("-", "search", 0, "Blue  MUG"),
        Step("mug", "view", MINUTE),
        Step("mug", "purchase", 2 * MINUTE),
        Step("cup", "view", 60 * MINUTE),
        Step("tea", "click", 61 * MINUTE, "green tea"),
    )
    led = {key: weight for key, weight in found.items() if key[1] == "query_led_to"}
    assert led == {
        ("query:blue mug", "query_led_to", "mug"): 4.0,
        ("query:green tea", "query_led_to", "tea"): 1.0,
    }
    assert len(node("query", "長" * 5_000).encode()) < 800
