"""Feature services: what a consumer asks for by one name."""

from feast import FeatureService, OnDemandFeatureView

from feature_store.repo.definitions import USER_AFFINITY, Definitions


def feature_services(definitions: Definitions, unpacking: list[OnDemandFeatureView]) -> list[FeatureService]:
    """Build `user_features` and `item_features`, the readable features of one person or one item."""
    views = {view.name: view for view in unpacking}
    return [
        FeatureService(
            name="user_features",
            features=[views["user_counters"], views["user_interactions"], definitions.view(USER_AFFINITY)],
            description="Everything known of a person, under readable names.",
        ),
        FeatureService(
            name="item_features",
            features=[views["item_counters"]],
            description="Everything known of an item, under readable names.",
        ),
    ]
