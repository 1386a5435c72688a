"""Words for generated names and titles."""

ADJECTIVES = (
    "Amber", "Ancient", "Azure", "Bitter", "Bold", "Brave", "Bright", "Broken", "Calm", "Clever", "Cobalt", "Cosmic",
    "Crimson", "Crooked", "Curious", "Dark", "Distant", "Dusty", "Electric", "Endless", "Faded", "Fearless", "Fierce",
    "Final", "Flying", "Forgotten", "Frozen", "Gentle", "Giant", "Golden", "Grumpy", "Hasty", "Haunted", "Hidden",
    "Hollow", "Hungry", "Infinite", "Iron", "Jolly", "Last", "Lazy", "Little", "Lonely", "Lost", "Lucky", "Lunar",
    "Mad", "Magic", "Mighty", "Misty", "Neon", "Nimble", "Odd", "Paper", "Patient", "Pixel", "Polar", "Proud", "Quiet",
    "Rapid", "Restless", "Royal", "Rusty", "Sandy", "Secret", "Shy", "Silent", "Silver", "Sleepy", "Sly", "Small",
    "Solar", "Steady", "Stormy", "Strange", "Sunken", "Super", "Swift", "Tiny", "Turbo", "Velvet", "Wandering", "Wicked",
    "Wild", "Winding", "Wise", "Wooden", "Young", "Zany",
)  # fmt: skip

NOUNS = (
    "Acorn", "Anchor", "Archer", "Badger", "Balloon", "Beacon", "Beetle", "Bridge", "Cactus", "Castle", "Cavern", "Cipher",
    "Clock", "Comet", "Compass", "Crane", "Crown", "Desert", "Diver", "Dragon", "Drum", "Engine", "Falcon", "Ferry", "Forest",
    "Fortress", "Fox", "Galaxy", "Garden", "Ghost", "Glacier", "Goblin", "Harbor", "Heron", "Island", "Jester", "Jungle",
    "Kettle", "Kingdom", "Kite", "Knight", "Labyrinth", "Lantern", "Lighthouse", "Lizard", "Machine", "Magnet", "Mansion",
    "Marble", "Maze", "Meadow", "Meteor", "Mill", "Mirror", "Moon", "Mountain", "Mouse", "Ninja", "Ocean", "Orchard", "Otter",
    "Owl", "Palace", "Penguin", "Pirate", "Planet", "Puzzle", "Rabbit", "Racer", "Raft", "Railway", "Raven", "River", "Robot",
    "Rocket", "Sailor", "Shadow", "Snail", "Sparrow", "Station", "Submarine", "Temple", "Tower", "Train", "Traveler", "Turtle",
    "Valley", "Volcano", "Wagon", "Whale", "Willow", "Window", "Wizard", "Wolf", "Workshop", "Yeti",
)  # fmt: skip

NAMES = (
    "ada", "aiko", "alba", "amir", "anouk", "ansel", "ayla", "benno", "bruno", "cara", "cleo", "dario", "della", "edda",
    "elio", "emre", "enya", "farah", "finn", "gita", "greta", "hana", "hugo", "ida", "ilse", "imran", "ivo", "jana",
    "jonas", "juno", "kaya", "kemal", "lars", "leila", "lena", "lino", "luz", "mads", "malik", "mara", "marek", "mila",
    "nadia", "nils", "noor", "odin", "olga", "otto", "petra", "quinn", "rafa", "rhea", "runa", "samir", "selma", "sven",
    "tara", "teo", "tilda", "uma", "vera", "viggo", "wanda", "xenia", "yara", "yusuf", "zeno", "zoe",
)  # fmt: skip

SURNAMES = (
    "abbott", "adler", "bauer", "becker", "brook", "castle", "clay", "dale", "ember", "falk", "fern", "field", "forge",
    "frost", "gale", "glen", "grove", "hale", "heath", "hill", "holm", "kerr", "lake", "lane", "lowe", "marsh", "meyer",
    "moss", "north", "oakes", "park", "pike", "quill", "reed", "rivera", "rowe", "sato", "shaw", "stone", "thorn",
    "vale", "voss", "ward", "west", "wood", "york",
)  # fmt: skip
