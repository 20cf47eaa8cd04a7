"""The sentences of the tales, in the notation of notation.py.

A story is an opening, one of eight plots, and an ending. Each plot says who owns the thing at last;
the ending, whatever the plot was, names that owner.
"""

RULES = {
    "story": """
        1 <opening> <plot> <ending>
    """,
    "opening": """
        6 One {=weather} {=part|day} {hero=girl|boy} {=went} <to_the_spot>.
        3 {=Near} the {=spot} {=lived} {hero=girl|boy}, <a_trait> {hero.boy} <with_company>.
        3 {hero=girl|boy} was <a_trait> {hero.boy} who {=played} {=near} the {=spot}.
        2 Every {=part|day|season} {hero=girl|boy} and {hero.his} {=kin} {=went} <to_the_spot>.
        2 Last {=day|season|month} {hero=girl|boy} felt {=feeling} and {=went} <to_the_spot>.
        2 Long ago {hero=girl|boy} {=bought} a {=shape} {=house} {=near} the {=spot}.
    """,
    "to_the_spot": """
        3 to the {=spot}
        2 {=manner} to the {=spot}
    """,
    "with_company": """
        2 with a {=mood} {=animal}
        1 from the {=home}
    """,
    "hero": """
        3 {hero.he}
        2 {hero}
    """,
    "Hero": """
        3 {hero.He}
        2 {hero}
    """,
    "friend": """
        1 {friend.he}
        1 {friend}
    """,
    "a_trait": """
        6 a {=trait}
        1 an {=open_trait}
    """,
    "item": """
        6 a {=shape} {=look} {thing=single}
        2 an {=open_shape} {=look} {thing=single}
        4 some {=shape|open_shape} {=look} {thing=several}
    """,
    "plot": """
        3 There <hero> {=lost} <item>. <search> <sought>
        3 <Hero> {=owned} <item>. <visit> <borrowing> <lent>
        3 Hungry and {=feeling}, <hero> {=met} {friend unlike hero}, <offer> <traded>
        3 {=Under} a {=cover} <hero> {=found} <item>. <wonder> <lost_by>
        2 {=Soon} {friend unlike hero} came {=coming} with <item>. <race>
        2 Suddenly <hero> {=met} {friend unlike hero}, <a_trait> {friend.boy}, <rescue>
        2 "Take <item> to {friend unlike hero}," {=begged} {hero.his} {=trait} {=kin}. <errand>
        2 It was the birthday of {friend unlike hero}, <party> <thanks>
    """,
    "search": """
        4 <Hero> searched {=manner} until {friend unlike hero} came {=coming}.
        3 Then <hero> {=met} {friend unlike hero}, <a_trait> {friend.boy} <with_company>.
        2 Luckily {friend unlike hero} was {=doing} {=under} a {=cover}.
    """,
    "sought": """
        1 "Where {thing.are} my {thing}?" <hero> {=asked} {=manner}. <seen>
        1 <seen>
    """,
    "seen": """
        4 "A {=mood} {=animal} took your {thing}," {=said} {friend}. <chase>
        3 "Look {=under} that {=cover}!" {=called} {friend}, <uncover>
        2 "Ask the {=job}," {=said} {friend} {=manner}. <ask_job>
    """,
    "chase": """
        1 They {=caught} it {=under} a {=cover} and got the {thing} back.[owner=hero]
    """,
    "uncover": """
        1 and there {thing.were} the {thing}.[owner=hero]
    """,
    "ask_job": """
        1 Indeed {hero} got the {thing} back.[owner=hero]
    """,
    "visit": """
        4 One {=part|month} {friend unlike hero}, <a_trait> {friend.boy}, came {=coming}.
        3 By chance <hero> {=met} {friend unlike hero}, who was {=feeling}.
        2 Nearby lived {friend unlike hero}, who loved {=hobby} and {=food}.
    """,
    "borrowing": """
        1 "May I borrow your {thing} until {=day}?" <friend> {=asked} {=manner}.
    """,
    "lent": """
        5 "Gladly," {=said} {hero}, and {friend} {=gave} {thing.them} back <with_food>
        3 "Keep {thing.them}!" {=called} {hero}. {friend.He}
          {=hugged} the {thing}.[owner=friend]
        2 "Never," {=said} {hero}, and {friend} {=went} home {=feeling}.[owner=hero]
    """,
    "with_food": """
        1 with some {=taste} {=food}.[owner=hero]
    """,
    "offer": """
        1 <a_trait> {friend.boy} who sold {=taste} {=food}. <my_item>
    """,
    "my_item": """
        1 "Give me some for my {=shape|open_shape} {=look} {thing=single|several},"
          {=begged} {hero}.
    """,
    "traded": """
        5 "Gladly," {=said} {friend}, and {hero} ate everything {=manner}.[owner=friend]
        3 "Keep your {thing}," {=said} {friend} and shared everything {=manner}.[owner=hero]
        2 "Never!" {=called} {friend} and ate everything {=under} a {=cover}.[owner=hero]
    """,
    "wonder": """
        1 "Who lost {thing.these} {thing}?" <hero> asked <a_trait> {=job}.
    """,
    "lost_by": """
        4 "Ask {friend unlike hero}," was the {=trait} answer. {=Soon} <friend>
          {=hugged} the {thing} {=manner}.[owner=friend]
        3 "Maybe {friend unlike hero}," was the {=trait} answer. {friend.He}
          {=gave} {hero} some {=taste} {=food} for {thing.them}.[owner=friend]
        2 "Nobody," was the {=trait} answer, so {hero} showed {thing.them} to
          {friend unlike hero}, <a_trait> {friend.boy}.[owner=hero]
    """,
    "race": """
        1 "Race me to the {=house} for {thing.them}!" {=called} {friend}.
          They {=went} {=manner}, <finish>
          "{thing.They} {thing.are} yours, {owner}," {=laughed} {loser} {=manner}.
    """,
    "finish": """
        1 and {hero} won.[owner=hero][loser=friend]
        1 but {friend} won.[owner=friend][loser=hero]
    """,
    "rescue": """
        1 deep in a {=trap}. <cry> {hero} pulled {friend.him} out <rescued>
    """,
    "cry": """
        1 "Throw me your {=shape|open_shape} {=look} {thing=tool}!" {=called} {friend}.
    """,
    "rescued": """
        3 and got some {=taste} {=food}.[owner=hero]
        2 {=manner}.[owner=hero]
    """,
    "errand": """
        1 On the way a {=mood} {=animal} {=wanted} {thing.them}, <tempt>
          "{hero}, I love the {thing}!" {=laughed} {friend}.[owner=friend]
    """,
    "tempt": """
        3 but {hero} gave it some {=taste} {=food}.
        2 so {hero} {=went} away {=manner}.
    """,
    "party": """
        1 <a_trait> {friend.boy} who loved {=hobby}. {hero} brought <item>,
          and {hero.his} {=trait} {=kin} brought some {=taste} {=food}.
    """,
    "thanks": """
        3 "Your {thing} {thing.are} {=lovely}!" {=laughed} {friend} {=manner}.[owner=friend]
        2 {friend} shared the food and {=hugged} the {thing} {=manner}.[owner=friend]
    """,
    "ending": """
        4 Next {=part|day|season|month} {owner} {=put} the {thing} <in_the_room>.
        4 {=Finally} {owner} {=went} {=manner} home with the {thing}.
        3 Each {=day} {owner} {=carried} the {thing} {=manner} to the {=house}.
        3 {hero} and {friend} became {=bond} friends and often {=played} together.
        2 "What a {=lovely} {=part}!" {=laughed} {friend}, and they {=went} home {=manner}.
        3 Later both {=went} {=manner} home.
        2 So {hero} told {hero.his} {=trait} {=kin} about {friend} and the {thing}.
    """,
    "in_the_room": """
        1 {=under} {owner.his} {=shape} {=furniture}
    """,
}
