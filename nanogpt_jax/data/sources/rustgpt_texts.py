"""Facts and dialogues about nature, written for RustGPT's recipe: small enough to learn by heart.

The topics are RustGPT's, the sentences are ours. Each text is at most 29 words and ends with the
word `</s>`. Nothing is said here of how they are split or learned.
"""

END = " </s>"

_STATEMENTS = """
The sun rises in the east because the Earth turns from west to east
Gravity pulls every object with mass toward every other object
Mountains rise where plates of the Earth's crust push against each other
Rain falls when drops in a cloud grow too heavy to float
A star shines because hydrogen fuses into helium in its hot core
The ocean holds nearly all of the water on the Earth
The seasons change because the axis of the Earth is tilted
The moon goes around the Earth in about twenty seven days
Tides follow the pull of the moon and the sun on the ocean
Rivers carry water and mud from the hills down to the sea
Plants use light to make sugar from water and carbon dioxide
Volcanoes erupt when melted rock finds a way to the surface
Earthquakes happen when stressed rock along a fault slips all at once
Lightning is a giant spark between parts of a cloud or the ground
Thunder is the sound of air that lightning has heated in an instant
Wind is air that moves from high pressure to low pressure
Snow forms when water vapor freezes into crystals inside a cloud
A rainbow appears when drops of rain split sunlight into colors
The sky looks blue because air scatters blue light more than red light
Water boils at a lower temperature on top of a high mountain
Ice floats because it is less dense than liquid water
Deserts are dry places where very little rain falls in a year
Glaciers are rivers of ice that creep slowly down a valley
Bees carry pollen from flower to flower while they gather nectar
Sound travels faster through water than it travels through air
Fossils keep the shape of living things that died long ago
"""

_QUESTIONS_AND_ANSWERS = """
Why does the sun rise? | The sun seems to rise because the Earth turns toward it each morning.
Where does the sun set? | The sun sets in the west at the end of each day.
What is gravity? | Gravity is the force that pulls objects with mass toward each other.
Why do things fall? | Things fall because the gravity of the Earth pulls them down.
How do mountains form? | Mountains form where plates of rock collide over millions of years.
Which mountain is the highest? | Mount Everest is the highest mountain above the level of the sea.
What causes rain? | Rain is caused by tiny drops in a cloud that join and become heavy.
What are clouds made of? | Clouds are made of tiny drops of water or crystals of ice.
Why do stars shine? | Stars shine because fusion in their cores turns hydrogen into helium.
Why do stars twinkle? | Stars twinkle because moving air bends their light back and forth.
Which star is nearest to us? | The sun is the star that is nearest to the Earth.
Why is the ocean salty? | The ocean is salty because rivers bring salt that they wash out of rocks.
How deep is the ocean? | The ocean is nearly four kilometers deep on average.
Why do we have seasons? | Our seasons change because the tilted Earth leans toward the sun and away.
When are days the longest? | In the north, days are the longest in late June.
What makes the tides? | The gravity of the moon and the sun makes the tides.
Why does the moon shine? | The moon shines because it reflects the light of the sun.
Why does the moon change its shape? | We see more or less of its bright half as it goes around us.
How do rivers begin? | Rivers begin in high places with springs, rain or melting snow.
Where do rivers go? | Most rivers flow downhill until they reach a lake or the sea.
How do plants make food? | Plants use light to make sugar from water and carbon dioxide.
Why are leaves green? | Leaves are green because chlorophyll takes in red and blue light.
Why do leaves turn yellow in autumn? | Their chlorophyll breaks down and other colors can be seen.
How do trees drink? | Trees draw water up through their roots as it evaporates from their leaves.
How do seeds travel? | Seeds travel with the wind, with water and with animals.
Why do volcanoes erupt? | Volcanoes erupt when gas drives melted rock up to the surface.
What is lava? | Lava is melted rock that has reached the surface of the Earth.
What causes earthquakes? | Earthquakes are caused by rocks that suddenly slip along a fault.
What is lightning? | Lightning is a giant spark of electricity in the sky.
Why do we hear thunder? | Thunder is heard because lightning heats the air, which expands at once.
Why does thunder come after lightning? | Light travels much faster than sound, so we see it first.
What is wind? | Wind is air that flows from high pressure to low pressure.
How does snow form? | Snow forms when water vapor freezes into crystals inside a cold cloud.
What is hail? | Hail is balls of ice that grow inside the clouds of a storm.
What is fog? | Fog is a cloud that touches the ground.
How does dew form? | Dew forms when cool grass makes vapor in the air turn into drops.
How does a rainbow appear? | A rainbow appears when drops of rain split sunlight into its colors.
Why is the sky blue? | The sky is blue because air scatters blue light more than red light.
Why is a sunset red? | At sunset, light crosses so much air that mostly red light is left.
Why does ice float? | Ice floats because it is less dense than liquid water.
When does water freeze? | Pure water freezes at zero degrees Celsius at normal pressure.
What is a desert? | A desert is a place where very little rain falls.
What is a glacier? | A glacier is a mass of ice that slowly flows downhill.
Why do bees visit flowers? | Bees visit flowers to gather nectar and pollen for food.
How do birds fly? | Birds fly by pushing air down with their wings.
How do fish breathe? | Fish breathe by taking oxygen out of water with their gills.
Why do bats squeak? | Bats squeak to find their way by listening to the echoes.
What is an echo? | An echo is a sound that comes back from a wall or a cliff.
How do fossils form? | Fossils form when buried remains slowly turn into stone.
How old is the Earth? | The Earth is about four and a half billion years old.
How many planets circle the sun? | Eight planets circle the sun, and the Earth is the third.
What is an atom? | An atom is the smallest piece of an element.
What do magnets attract? | Magnets attract iron, nickel and cobalt.
"""

FACTS = tuple(f"{line}.{END}" for line in _STATEMENTS.strip().splitlines())
# Questions and answers apart, for whoever wants to ask and compare.
EXCHANGES = tuple(
    (question, answer)
    for question, _, answer in (
        line.partition(" | ") for line in _QUESTIONS_AND_ANSWERS.strip().splitlines()
    )
)
DIALOGUES = tuple(f"User: {question} Assistant: {answer}{END}" for question, answer in EXCHANGES)
