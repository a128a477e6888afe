"""The words of the simulated shop: departments with their products, styles with their adjectives, and brands."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Department:
    """One shelf of the shop.

    Args:
        name: As shown in the category path.
        aisle: The wider category above it.
        nouns: What is sold there; every noun gives one product per style.
        use: How a description says what the thing is for.
        season: -1 for a thing of winter, +1 for a thing of summer, 0 for neither.
    """

    name: str
    aisle: str
    nouns: tuple[str, ...]
    use: str
    season: int = 0


@dataclass(frozen=True, kw_only=True)
class Style:
    """One taste that runs through every department."""

    name: str
    adjectives: tuple[str, ...]
    materials: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


DEPARTMENTS: tuple[Department, ...] = (
    Department(
        name="Coffee and Tea",
        aisle="Kitchen",
        use="for a slow morning",
        nouns=_words(
            "French Press, Espresso Cup, Coffee Grinder, Kettle, Teapot, Milk Jug, Coffee Scale, Tea Caddy, "
            "Pour Over Stand, Travel Mug"
        ),
    ),
    Department(
        name="Baking",
        aisle="Kitchen",
        use="for bread, cakes and biscuits",
        nouns=_words(
            "Mixing Bowl, Rolling Pin, Cake Tin, Bread Basket, Pastry Brush, Muffin Tray, Flour Sifter, "
            "Cookie Jar, Proving Cloth, Whisk"
        ),
    ),
    Department(
        name="Tableware",
        aisle="Kitchen",
        use="for the dinner table",
        nouns=_words(
            "Dinner Plate, Soup Bowl, Serving Board, Salad Servers, Wine Glass, Water Carafe, Butter Dish, "
            "Napkin Set, Salt Cellar, Fruit Bowl"
        ),
    ),
    Department(
        name="Lighting",
        aisle="Home",
        use="for a warm and even light",
        nouns=_words(
            "Desk Lamp, Floor Lamp, Pendant Shade, Candle Holder, Lantern, Wall Sconce, Night Light, "
            "Fairy Lights, Lamp Base, Reading Light"
        ),
    ),
    Department(
        name="Bedding",
        aisle="Home",
        use="for quiet nights",
        season=-1,
        nouns=_words(
            "Duvet Cover, Wool Blanket, Pillowcase, Quilt, Flannel Sheet, Throw, Hot Water Bottle, "
            "Bed Runner, Eiderdown, Cushion"
        ),
    ),
    Department(
        name="Storage",
        aisle="Home",
        use="to keep a room in order",
        nouns=_words(
            "Wicker Basket, Bookshelf, Drawer Box, Coat Rack, Shoe Bench, Wall Hook, Laundry Hamper, "
            "Magazine Rack, Toy Chest, Key Tray"
        ),
    ),
    Department(
        name="Garden",
        aisle="Outdoor",
        use="for beds, pots and borders",
        season=1,
        nouns=_words(
            "Watering Can, Planter, Garden Trowel, Bird Feeder, Seed Tray, Pruning Shears, Garden Gloves, "
            "Trellis, Rain Gauge, Hose Reel"
        ),
    ),
    Department(
        name="Picnic and Barbecue",
        aisle="Outdoor",
        use="for eating under the sky",
        season=1,
        nouns=_words(
            "Picnic Basket, Cool Bag, Grill Tongs, Charcoal Grill, Picnic Rug, Lemonade Dispenser, Parasol, "
            "Folding Chair, Ice Bucket, Skewer Set"
        ),
    ),
    Department(
        name="Winter Wear",
        aisle="Clothing",
        use="against frost and wind",
        season=-1,
        nouns=_words(
            "Wool Scarf, Knitted Hat, Mittens, Thermal Socks, Cardigan, Slippers, Ear Warmers, Fleece Vest, "
            "Poncho, Leg Warmers"
        ),
    ),
    Department(
        name="Bags",
        aisle="Clothing",
        use="to carry the day",
        nouns=_words(
            "Tote Bag, Backpack, Purse, Weekend Bag, Satchel, Pencil Case, Wash Bag, Laptop Sleeve, Belt Bag, Shopper"
        ),
    ),
    Department(
        name="Stationery",
        aisle="Paper",
        use="for letters and lists",
        nouns=_words(
            "Notebook, Fountain Pen, Wrapping Paper, Greeting Card, Desk Calendar, Sketchbook, Letter Set, "
            "Sticker Sheet, Gift Tag, Paperweight"
        ),
    ),
    Department(
        name="Toys",
        aisle="Play",
        use="for small hands",
        nouns=_words(
            "Puzzle, Spinning Top, Doll House, Building Blocks, Kite, Memory Game, Rocking Horse, Toy Train, "
            "Skipping Rope, Tea Set"
        ),
    ),
)

# Opens in the middle of the demo: nobody has ever seen an item of it, only its text says what it is.
NEW_DEPARTMENT = Department(
    name="Home Fitness",
    aisle="Sport",
    use="for training in the living room",
    nouns=_words(
        "Yoga Mat, Kettlebell, Resistance Band, Foam Roller, Balance Board, Exercise Ball, Jump Rope, "
        "Dumbbell, Massage Ball, Gym Towel"
    ),
)

STYLES: tuple[Style, ...] = (
    Style(
        name="rustic",
        adjectives=_words("Rustic, Farmhouse, Country, Weathered, Handmade"),
        materials=_words("oak, linen, stoneware, willow, raw wool"),
    ),
    Style(
        name="modern",
        adjectives=_words("Modern, Minimal, Nordic, Slim, Geometric"),
        materials=_words("brushed steel, concrete, glass, black ash, felt"),
    ),
    Style(
        name="vintage",
        adjectives=_words("Vintage, Regency, Antique, Retro, Heritage"),
        materials=_words("brass, velvet, enamel, porcelain, walnut"),
    ),
    Style(
        name="playful",
        adjectives=_words("Polka Dot, Rainbow, Happy, Jolly, Bright"),
        materials=_words("painted tin, cotton, bamboo, rubber, paper"),
    ),
)

BRANDS: tuple[str, ...] = _words(
    "Alder & Finch, Northlight, Maison Verel, Pip and Pebble, Harrow Lane, Studio Kvist, Old Mill, "
    "Tamsin Grey, Lumo, Bramble"
)
