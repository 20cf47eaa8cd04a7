"""The words of the tales: lexicons, frequent words first, and the forms that agree with them.

Every entry is one word. An adjective that follows "a" begins with a consonant; those that take "an"
have lexicons of their own, and so has the plural, so that agreement is visible in the rules.
"""

GIRL = {"he": "she", "him": "her", "his": "her", "boy": "girl"}
BOY = {form: form for form in GIRL}
SINGLE = {"they": "it", "them": "it", "were": "was", "are": "is", "these": "this"}
SEVERAL = {form: form for form in SINGLE}

FORMS = {"girl": GIRL, "boy": BOY, "single": SINGLE, "several": SEVERAL, "tool": SINGLE}

PEOPLE = {
    "girl": "Anna Mia Lucy Ella Clara Nora Ida Rosa",
    "boy": "Tom Ben Max Leo Sam Jack Noah Emil",
    "trait": """
        kind brave clever shy cheerful curious gentle quiet lazy patient polite bold merry lonely
        stubborn greedy dreamy careful friendly silly wise funny tall jolly famous
    """,
    "open_trait": "honest eager impatient adventurous elegant orderly",
    "feeling": "sad happy tired lonely bored proud worried glad angry calm restless gloomy lively",
    "hobby": "music painting fishing stories dancing flowers games birds chess riddles swimming",
    "kin": "mother father grandmother uncle aunt sister brother grandfather cousin",
    "job": """
        baker miller farmer teacher tailor shepherd gardener fisherman sailor blacksmith postman
        carpenter cook potter mayor king queen
    """,
    "bond": "good best close true dear old",
    "animal": """
        dog cat fox goat duck rabbit mouse goose frog pony hedgehog crow lamb squirrel donkey
        badger sparrow turtle beaver raccoon wolf bear magpie hen sheep pig camel parrot
    """,
    "mood": "little big fat hungry noisy clever playful sleepy hairy proud nervous fluffy",
}

THINGS = {
    "shape": """
        small big new tiny large pretty strange heavy broken round huge little beautiful plain
        dirty crooked thin light magic lucky dusty shabby
    """,
    "open_shape": "old odd ugly ancient enormous expensive unusual",
    "look": """
        red blue green yellow golden white silver black brown orange purple pink striped grey
        wooden shiny spotted painted glass copper leather crimson turquoise pale violet scarlet
        bronze
    """,
    "single": """
        kite lantern hat drum key ring book whistle flute ball basket map cup bell boat
        scarf coat mirror clock box
    """,
    "several": "boots gloves shoes marbles beads mittens skates coins",
    "tool": "rope ladder pole plank rake broom",
    "taste": "fresh warm sweet tasty delicious hot good sour salty spicy crisp soft juicy",
    "food": """
        bread cheese apples soup honey cake pears nuts cherries porridge plums carrots berries
        milk butter cookies pancakes raisins grapes rice pie jam biscuits
    """,
    "lovely": "lovely wonderful beautiful perfect splendid strange funny",
}

PLACES = {
    "spot": """
        river lake forest market mill bridge castle harbor garden hill church meadow well tower
        farm barn beach orchard station fountain lighthouse pond island palace temple school
    """,
    "trap": "ditch pit bog puddle hole swamp ravine stream",
    "cover": "bush bench stone cart table tree barrel log sack bucket",
    "house": "cottage house cabin tent workshop shop hut",
    "furniture": "bed chair desk pillow window table stove stairs",
    "home": "village mountains city north coast south valley island desert east west",
    "near": "near behind beside",
    "Near": "Near Behind Beside",
    "under": "under behind beside near",
    "Under": "Under Behind Beside",
}

TIMES = {
    "weather": """
        sunny rainy cold windy warm foggy snowy cloudy grey quiet frosty stormy bright misty mild
    """,
    "part": "morning day evening afternoon night",
    "day": "Monday Friday Sunday Tuesday Saturday Thursday Wednesday",
    "season": "winter summer spring autumn",
    "month": "April June July August March October January November",
    "Soon": "Soon Then Later",
    "Finally": "Finally Afterwards Then",
}

DEEDS = {
    "manner": """
        happily quietly softly gently slowly proudly kindly bravely eagerly shyly politely gladly
        warmly cheerfully calmly nervously carefully secretly silently sadly quickly boldly
        merrily dreamily lazily patiently
    """,
    "went": "walked ran hurried went strolled wandered marched raced skipped rode hiked danced",
    "coming": "running along singing whistling dancing limping jumping laughing crying skipping",
    "doing": "fishing reading painting singing sleeping dancing waiting working",
    "played": "played worked sang fished painted danced read talked",
    "lived": "lived worked sat slept waited",
    "bought": "bought built had found painted",
    "said": "said answered replied whispered laughed sighed",
    "asked": "asked wondered whispered sighed",
    "called": "called cried shouted exclaimed",
    "begged": "said begged called whispered",
    "laughed": "laughed cried said exclaimed sighed",
    "lost": "lost dropped forgot missed",
    "owned": "owned had carried bought",
    "met": "met saw noticed",
    "found": "found saw noticed discovered",
    "wanted": "wanted liked loved",
    "caught": "caught found stopped saw",
    "gave": "gave brought handed",
    "hugged": "hugged kissed praised",
    "put": "put hid placed kept left",
    "carried": "carried took brought",
}

LEXICONS = PEOPLE | THINGS | PLACES | TIMES | DEEDS
