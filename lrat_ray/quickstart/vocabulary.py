"""The words of the made world: names, and for every relation how an article states it and how a person asks for it.

Articles and questions use different words for the same relation, in several variants, so that word overlap alone does not lead
from one to the other. `{x}` is the subject, `{y}` the object.
"""

from __future__ import annotations

from dataclasses import dataclass


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A fact that every article of `kind` states. `target` is the object's kind, or None where the object is a plain value.

    `said` are sentences of the article, `asked` questions for the object, `phrase` noun phrases that stand for it.
    """

    kind: str
    name: str
    target: str | None
    said: tuple[str, ...]
    asked: tuple[str, ...]
    phrase: tuple[str, ...] = ()


RELATIONS = (
    Relation(
        kind="person",
        name="birthplace",
        target="town",
        said=("{x} was born in {y}.", "{x} was a native of {y}.", "The family lived in {y} when {x} was born."),
        asked=("Where was {x} born?", "In which town did the life of {x} begin?", "Which town is the birthplace of {x}?"),
        phrase=("the town in which {x} was born", "the birthplace of {x}", "the town where the life of {x} began"),
    ),
    Relation(
        kind="person",
        name="school",
        target="school",
        said=("{x} was educated at {y}.", "As a child {x} was sent to {y}.", "{x} spent nine years as a pupil of {y}."),
        asked=("Which school did {x} go to?", "Where did {x} get an education?", "At which school was {x} a pupil?"),
        phrase=("the school that {x} went to", "the school at which {x} was taught", "the place of education of {x}"),
    ),
    Relation(
        kind="person",
        name="employer",
        target="company",
        said=("For some years {x} worked for {y}.", "{x} earned a living at {y}.", "{x} was on the staff of {y}."),
        asked=("Which company employed {x}?", "For which firm did {x} work?", "Who was the employer of {x}?"),
        phrase=("the company that employed {x}", "the firm for which {x} worked", "the employer of {x}"),
    ),
    Relation(
        kind="person",
        name="spouse",
        target="person",
        said=("{x} married {y}.", "{x} and {y} became a couple for life.", "At the age of thirty {x} wed {y}."),
        asked=("Whom did {x} marry?", "Who is the spouse of {x}?", "Who was married to {x}?"),
        phrase=("the spouse of {x}", "the person whom {x} married", "the one who was married to {x}"),
    ),
    Relation(
        kind="person",
        name="birth year",
        target=None,
        said=("The parish book gives {y} as the year of birth of {x}.", "{x} was the third child, born in the year {y}."),
        asked=("In which year was {x} born?", "What is the year of birth of {x}?"),
    ),
    Relation(
        kind="town",
        name="river",
        target="river",
        said=("{x} lies on the river {y}.", "The river {y} flows through {x}.", "{x} grew up by a ford over the river {y}."),
        asked=("Which river does {x} lie on?", "What is the river that runs through {x}?", "On which river is {x}?"),
        phrase=("the river that runs through {x}", "the river on which {x} lies", "the water at which {x} stands"),
    ),
    Relation(
        kind="town",
        name="twin town",
        target="town",
        said=("{x} is twinned with {y}.", "{x} and {y} have been partners since the last war.", "The partner of {x} is {y}."),
        asked=("Which town is the twin of {x}?", "Which town is {x} twinned with?", "What is the partner town of {x}?"),
        phrase=("the twin town of {x}", "the town that is twinned with {x}", "the partner town of {x}"),
    ),
    Relation(
        kind="town",
        name="mayor",
        target="person",
        said=("The mayor of {x} is {y}.", "{y} was elected to run the town hall of {x}.", "{x} has been governed by {y}."),
        asked=("Who is the mayor of {x}?", "Who governs the town of {x}?", "Who heads the town hall of {x}?"),
        phrase=("the mayor of {x}", "the person who governs {x}", "the head of the town hall of {x}"),
    ),
    Relation(
        kind="town",
        name="craft",
        target=None,
        said=("{x} is known for its {y}.", "Most people of {x} live by {y}.", "The chief trade of {x} is {y}."),
        asked=("What is {x} known for?", "Which trade do the people of {x} live by?", "What is the chief trade of {x}?"),
    ),
    Relation(
        kind="river",
        name="source",
        target=None,
        said=("The {x} rises on {y}.", "The {x} springs from the slopes of {y}.", "{y} feeds the {x} with its snow."),
        asked=("Where does {x} rise?", "On which mountain is the spring of {x}?"),
    ),
    Relation(
        kind="river",
        name="mouth",
        target="town",
        said=(
            "The {x} reaches the sea at {y}.",
            "{y} stands at the mouth of the {x}.",
            "The {x} meets the sea in the town of {y}.",
        ),
        asked=("At which town does {x} reach the sea?", "Which town stands at the mouth of {x}?"),
        phrase=("the town at the mouth of {x}", "the town where {x} reaches the sea"),
    ),
    Relation(
        kind="company",
        name="founder",
        target="person",
        said=("{x} was founded by {y}.", "{y} set up {x} with borrowed money.", "The business was begun by {y}."),
        asked=("Who founded {x}?", "Who is the founder of {x}?", "Which person started {x}?"),
        phrase=("the founder of {x}", "the person who founded {x}", "the person who started {x}"),
    ),
    Relation(
        kind="company",
        name="headquarters",
        target="town",
        said=("{x} has its head office in {y}.", "{x} is run from {y}.", "The offices of {x} are in {y}."),
        asked=("Where is the head office of {x}?", "In which town is {x} based?", "Which town is the seat of {x}?"),
        phrase=("the town in which {x} is based", "the seat of {x}", "the town with the head office of {x}"),
    ),
    Relation(
        kind="company",
        name="founding year",
        target=None,
        said=("{x} opened its doors in {y}.", "{x} dates from {y}.", "The first order of {x} was booked in {y}."),
        asked=("In which year was {x} founded?", "When was {x} founded?"),
    ),
    Relation(
        kind="film",
        name="director",
        target="person",
        said=("{x} was directed by {y}.", "{y} was in charge of the shooting of {x}.", "{x} is a work of the director {y}."),
        asked=("Who directed {x}?", "Who is the director of {x}?", "Which person made {x}?"),
        phrase=("the director of {x}", "the person who directed {x}", "the maker of {x}"),
    ),
    Relation(
        kind="film",
        name="star",
        target="person",
        said=("The leading part in {x} is played by {y}.", "{y} stars in {x}.", "{x} made {y} famous as an actor."),
        asked=("Who stars in {x}?", "Who has the main role in {x}?", "Which actor leads {x}?"),
        phrase=("the star of {x}", "the actor with the main role in {x}", "the lead actor of {x}"),
    ),
    Relation(
        kind="film",
        name="location",
        target="town",
        said=("{x} was shot in {y}.", "The cameras for {x} were set up in {y}.", "Most scenes of {x} were taken in {y}."),
        asked=("Where was {x} shot?", "In which town was {x} made?", "What is the location of {x}?"),
        phrase=("the town where {x} was shot", "the town in which {x} was filmed", "the location of {x}"),
    ),
    Relation(
        kind="film",
        name="release year",
        target=None,
        said=("{x} came to the cinemas in {y}.", "{x} was first shown in {y}.", "{x} had its premiere in {y}."),
        asked=("When was {x} released?", "In which year did {x} come out?"),
    ),
    Relation(
        kind="school",
        name="town",
        target="town",
        said=("{x} is a school in {y}.", "The buildings of {x} stand in {y}.", "{x} teaches the children of {y}."),
        asked=("In which town is {x}?", "Where is {x}?", "Which town is {x} located in?"),
        phrase=("the town of {x}", "the town in which {x} is located", "the town that is home to {x}"),
    ),
    Relation(
        kind="school",
        name="head",
        target="person",
        said=("{y} is the head of {x}.", "{x} is led by {y}.", "The rector of {x} is {y}."),
        asked=("Who is the head of {x}?", "Who leads {x}?", "Who is the head teacher of {x}?"),
        phrase=("the head of {x}", "the head teacher of {x}", "the person who leads {x}"),
    ),
    Relation(
        kind="school",
        name="motto",
        target=None,
        said=("The motto of {x} is {y}.", "Over the gate of {x} stands the motto {y}.", "Pupils of {x} learn the motto {y}."),
        asked=("What is the motto of {x}?", "What is written over the gate of {x}?"),
    ),
    Relation(
        kind="novel",
        name="author",
        target="person",
        said=("{x} is a novel by {y}.", "{y} wrote {x} in one winter.", "{x} came from the pen of {y}."),
        asked=("Who wrote {x}?", "Who is the author of {x}?", "Which writer is behind {x}?"),
        phrase=("the author of {x}", "the person who wrote {x}", "the writer behind {x}"),
    ),
    Relation(
        kind="novel",
        name="setting",
        target="town",
        said=("{x} is set in {y}.", "The story of {x} unfolds in {y}.", "The people of {x} live in {y}."),
        asked=("In which town is {x} set?", "Where does {x} take place?"),
        phrase=("the town in which {x} is set", "the scene of {x}", "the town where {x} takes place"),
    ),
    Relation(
        kind="novel",
        name="publication year",
        target=None,
        said=("{x} was printed in {y}.", "{x} appeared in {y}.", "Readers first held {x} in their hands in {y}."),
        asked=("When was {x} published?", "In which year did {x} come out?"),
    ),
)
"""Every article states all relations of its kind, so that a question about any of them can be answered."""

STARTS = {
    "film": ('the film "{x}"', "the film {x}", "the motion picture {x}"),
    "novel": ('the novel "{x}"', "the novel {x}", "the book {x}"),
    "company": ("the company {x}", "the firm {x}"),
    "school": ("the school {x}", "{x}"),
    "person": ("{x}", "the {trait} {x}"),
    "town": ("{x}", "the town of {x}"),
}
"""How a question names the entity that it starts from."""

DESCRIBED = {
    "film": ("the film {trait} that was first shown in {year}", "the {year} film {trait}"),
    "novel": ("the novel {trait} that appeared in {year}", "the {year} book {trait}"),
    "company": ("the maker of {trait} founded in {year}", "the {trait} company that opened in {year}"),
}
"""How a question describes the entity it starts from without naming it."""

CALLED = {
    "film": "the film {x}",
    "novel": "the novel {x}",
    "river": "the river {x}",
    "school": "the school {x}",
    "company": "the company {x}",
}
"""How a sub-question names an entity whose name alone does not say what it is."""

COMPARED = {
    "film": ("Which film came out first, {a} or {b}?", "Of the films {a} and {b}, which one is older?"),
    "novel": ("Which novel was published first, {a} or {b}?", "Of the books {a} and {b}, which one is older?"),
    "company": ("Which company was founded first, {a} or {b}?", "Of the firms {a} and {b}, which one is older?"),
}

TRAITS = {
    "person": ("painter", "engineer", "singer", "botanist", "actor", "judge", "printer", "surveyor", "poet", "physician"),
    "film": (
        "about lighthouse keepers",
        "about two rival bakers",
        "about a stolen bell",
        "about a winter without snow",
        "about a travelling circus",
        "about a blind clockmaker",
        "about the last ferry",
        "about twins raised apart",
        "about a forged will",
        "about a village orchestra",
        "about a lost regiment",
        "about a doctor on trial",
        "about smugglers in a marsh",
        "about a chess master",
        "about an orphan and a horse",
        "about a strike of weavers",
    ),
    "company": ("bicycles", "clocks", "paper", "rope", "pianos", "ovens", "lamps", "carpets", "cheese", "spectacles", "pumps"),
}
TRAITS["novel"] = TRAITS["film"]

OPENINGS = {
    "person": ("{x} was {a_trait}.", "{x} is remembered as {a_trait}.", "The {trait} {x} led a quiet life."),
    "town": ("{x} is a town in {region}.", "{x} is a market town of {region}.", "The town of {x} belongs to {region}."),
    "river": ("The {x} is a river of {region}.", "The {x} is one of the waters of {region}."),
    "company": ("{x} makes {trait}.", "{x} is a manufacturer of {trait}.", "{x} sells {trait} all over {region}."),
    "film": ("{x} is a film {trait}.", "{x} tells a story {trait}.", "{x} is a picture {trait}, made for a small studio."),
    "school": ("{x} is one of the old schools of {region}.", "{x} takes pupils from the age of eleven."),
    "novel": ("{x} is a book {trait}.", "{x} tells a story {trait}.", "{x} is a long tale {trait}."),
}

COLOUR = {
    "person": (
        "Neighbours spoke of a patient and rather stubborn nature.",
        "A small museum keeps letters, a desk and a pair of gloves.",
        "The press of the time took little notice.",
        "In later years long walks and beekeeping filled the days.",
        "A street and a rose bear the name.",
        "Many of the papers were lost in a fire.",
        "The diaries were published by a grandchild.",
        "An early journey abroad left a deep mark.",
    ),
    "town": (
        "The covered market is held on Thursdays.",
        "A stone bridge with seven arches is on the coat of arms.",
        "The church tower leans a little to the east.",
        "A narrow railway used to bring timber down from the hills.",
        "The annual fair draws visitors from all around.",
        "The old walls were pulled down to make a promenade.",
        "Floods have damaged the lower streets more than once.",
        "The population has been stable for a century.",
    ),
    "river": (
        "Its upper course is fast and full of stones.",
        "Barges carried grain on it until the railway came.",
        "Trout and otters have returned in recent years.",
        "A dam was planned and never built.",
        "Several mills stood along the banks.",
        "In spring it often floods the meadows.",
        "A ferry crosses it in three places.",
    ),
    "company": (
        "At its height it had four hundred workers.",
        "A fire destroyed the older workshop.",
        "Its catalogue is now sought by collectors.",
        "A strike over wages lasted eleven weeks.",
        "The trade mark shows a heron.",
        "The shares are held by the staff.",
        "An attempt to sell abroad came to nothing.",
    ),
    "film": (
        "Critics praised the photography and disliked the ending.",
        "The music was recorded in a church.",
        "Only two copies have survived.",
        "The costumes were borrowed from a theatre.",
        "It ran for eleven weeks and then vanished from the screens.",
        "A scene in the rain was repeated thirty times.",
        "A sequel was announced but never made.",
    ),
    "school": (
        "The library holds a collection of old globes.",
        "Its rowing team is feared in the whole region.",
        "Lessons used to begin at six in the morning.",
        "The playing fields were given by a widow.",
        "Girls have been admitted for sixty years.",
        "A storm took the roof of the chapel.",
        "The choir travels every spring.",
    ),
    "novel": (
        "The first printing sold out within a month.",
        "Reviewers found it too long.",
        "It has been translated into nine languages.",
        "The manuscript is kept in a bank.",
        "A cheap edition made it popular with soldiers.",
        "The last chapter was added on the advice of a friend.",
        "Schoolchildren still have to read it.",
    ),
}

DISTRACTORS = {
    "person": (
        (
            "{x} Prize",
            "The {x} Prize is given every second year to {a_trait}. The jury meets in {town}, although {x} was not born "
            "there and never worked there. Winners receive a medal and a journey to {town2}.",
        ),
        (
            "Letters of {x}",
            "The letters of {x} to {person} were printed long after both had died. They say little about birth, school, "
            "marriage or work, and a good deal about the weather of {town} and the price of coal.",
        ),
        (
            "{x} House",
            "{x} House is a villa in {town}. Despite its name it has no link with the birthplace, the school or the "
            "employer of {x}. It was built for {person}, who wished to honour a friend, and it is now a museum of local "
            "history.",
        ),
    ),
    "town": (
        (
            "{x} railway station",
            "{x} railway station lies outside the town, far from the river and from the town hall. Trains run to {town} "
            "and {town2} every hour. The waiting room was designed by {person}, who was never mayor of {x}.",
        ),
        (
            "{x} Festival",
            "The {x} Festival is a week of song. The mayor opens it from a boat, and a twin town sends a band. In recent "
            "years bands have come from {town}, and the prize for the best voice went to {person}.",
        ),
        (
            "Battle of {x}",
            "The Battle of {x} was fought in a wet spring. Troops from {town} crossed the river in boats and were beaten "
            "back. Trade suffered for years. The general, who was later the mayor of {town2}, has a statue there.",
        ),
    ),
    "company": (
        (
            "{x} strike",
            "The strike at {x} began with a quarrel about wages. The founder refused to talk. Workers marched from the "
            "head office to {town}, where {person} spoke to them. The year in which the firm was founded was painted on "
            "their banners.",
        ),
        (
            "{x} Band",
            "The {x} Band is a brass band in which workers of the company play. It has won prizes in {town} and in "
            "{town2}. Neither the founder nor the present owners of the firm ever played in it. It is conducted by "
            "{person}.",
        ),
    ),
    "film": (
        (
            "{x} (soundtrack)",
            "The soundtrack of the film {x} was recorded in {town}, by players who never met the director or the star. It "
            "was released on its own and sold better than the film. The singer {person} is heard in the last song.",
        ),
        (
            "{x} (stage play)",
            "{x} is a stage play after the film. It opened in {town2} and was directed and led by {person}, who had no "
            "part in the film itself. The play moves the story from the place where the film was shot to {town}.",
        ),
    ),
    "novel": (
        (
            "{x} (radio play)",
            "{x} is a radio play after the novel. The author had no hand in it, and the story was moved from the town in "
            "which the book is set to {town}. The narrator is {person}. It was broadcast on three evenings.",
        ),
        (
            "{x} Society",
            "The {x} Society brings together readers of the novel. It meets in {town}, which the author of the book never "
            "saw. Its president, {person}, has written a guide to the places in which the story could be set.",
        ),
    ),
    "school": (
        (
            "Old pupils of {x}",
            "The old pupils of {x} meet once a year in {town}. Nobody knows who was the head of the school when the "
            "custom began. Their song is sung at the gate, under the motto. The present chair is {person}.",
        ),
    ),
}
"""By kind of the entity that they are about: title and text of articles that use its words and hold none of its facts."""

REGIONS = (
    "Ostmark",
    "the Vale",
    "Lower Karn",
    "Upper Karn",
    "the Salt Coast",
    "Merrow",
    "the Nine Hills",
    "Tharland",
    "Eskeria",
)
CRAFTS = (
    "glass blowing",
    "lace",
    "salt",
    "boat building",
    "cider",
    "bell founding",
    "wool dyeing",
    "pottery",
    "smoked fish",
    "slate",
    "honey",
    "basket weaving",
    "toy making",
    "copper",
    "tobacco",
    "cutlery",
)
MOTTO_WORDS = (
    ("Patience", "Courage", "Truth", "Work", "Silence", "Hope", "Order", "Kindness"),
    (
        "before glory",
        "above all",
        "without fear",
        "in all weathers",
        "to the end",
        "and no excuses",
        "for everyone",
        "at first light",
    ),
)
FIRST_NAMES = _split(
    """Tomas Ilse Marek Oda Jorun Pavel Sanna Bertil Greta Anselm Lidia Harke Rosalin Emmet Vera Konrad Tilda Osric Mirela
    Davin Hanne Lorenz Agda Felip Nora Sibrand Elke Matis Yrsa Corin Wanda Hildo Petra Arvid Selma Jannik Ottil Rurik
    Maren Leif Edda Bruno Signe Valter Alma Teo Ragna Ivo Luzia Hector Brida Simeon Astri Milo Frida Anton Katja Emil
    Dorte Rolf Gesa Niklas Birte Oskar"""
)
SURNAME_SYLLABLES = (
    _split("Ver Hal Kos Bran Tor Mel Sten Wid Gar Lund Fen Rask Dol Ost Pell Hav Mor Ked Sol Brig Tarn Wes Nor Eld Vis Rod"),
    _split("rin mark ner dahl sen berg low vick stad man holt ler strom field gren ton wald rup ster beck nik mar ham"),
    ("", "son", "ski", "er", "a", "en", "ov", "ing"),
)
TOWN_SYLLABLES = (
    ("", "Old ", "New ", "Upper ", "Lower ", "Saint ", "Great ", "Little ", "North ", "South "),
    _split(
        """Hall Tarn Esk Mar Bel Oster Win Kel Sand Dun Fair Ash Holm Black Stan Raven Lang Hart Thorn Cold Brock Wester Mill
    Ship Alder Wick Cross Fal Pen Gold"""
    ),
    _split("mere ford wick ham by ton stead mouth haven burg dale well bridge market minster gate hurst field sund berg"),
)
RIVER_SYLLABLES = (
    _split("Ar Lis Tem Ov Sen Dra Kel Mur Ist Wen Gal Nes Tho Ul Ber Ras Pol Ed Vin Hol Zer Cal"),
    _split("a na dra wen ber sel mer ka der rin va lo ster"),
    ("", "n", "th", "sa", "ne"),
)
ADJECTIVES = _split(
    """Amber Silent Broken Distant Golden Last Hollow Crimson Burning Quiet Borrowed Frozen Forgotten Paper Iron Wild Second
    White Green Secret Narrow Long Bitter Gentle Lost"""
)
NOUNS = _split(
    """Harbour Orchard Winter Letter Garden Mirror River Lantern Bridge Island Summer Door Crown Shore Valley Song Clock
    Tower Road Feather Kingdom Stranger Season Window Promise Voyage Storm Piano Field Candle"""
)
MOUNTAINS = (
    ("Mount", "Great", "Old", "Little", "Grey", "High"),
    _split("Skarn Ovel Harrow Tind Brask Mole Kestrel Fang Sorrow Anvil Beacon Cairn Drum Ember Gable Horn Ladle Needle"),
)
