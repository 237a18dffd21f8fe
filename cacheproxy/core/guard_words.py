"""The words that the lexical guards know. Data only: to teach a guard, add a row or a word.

A row of *alternatives* reads ``"left words | right words | ..."``: the words of one column mean the same side, the
columns exclude each other. ``turn+on`` is a verb with its particle, wherever the particle stands ("turn the light
on"). Words are lower case. Rows of ``OPPOSITES`` are inflected on reading (enable, enables, enabled, enabling), the
other tables are taken as they stand.
"""

from __future__ import annotations

from typing import Final

OPPOSITES: Final[tuple[str, ...]] = (
    # Switching, granting, joining.
    "enable activate turn+on switch+on | disable deactivate turn+off switch+off shut+off",
    "enable allow permit | disable disallow forbid prohibit",
    "connect attach link | disconnect detach unlink",
    "install | uninstall",
    "lock | unlock",
    "block | unblock",
    "mute | unmute",
    "pin | unpin",
    "follow | unfollow",
    "friend | unfriend",
    "subscribe | unsubscribe",
    "archive | unarchive",
    "freeze | unfreeze thaw",
    "hide hidden | unhide show reveal",
    "pack compress zip | unpack decompress unzip extract",
    "encrypt | decrypt",
    "encode serialize | decode deserialize",
    "login log+in sign+in | logout log+out sign+out",
    "upgrade | downgrade",
    "upload | download",
    "import | export",
    "push | pull",
    "commit | revert rollback",
    "accept approve | reject decline deny refuse",
    "grant | revoke",
    "hire | fire dismiss",
    "join enter | leave exit quit",
    "arrive arrival | depart departure",
    "open opened | close closed shut",
    "start begin launch | stop end finish halt terminate",
    "continue resume | pause suspend",
    "create add insert | delete remove erase",
    "append | prepend",
    "attract | repel",
    "include | exclude",
    "merge combine | split separate",
    "wrap | unwrap",
    "select check | deselect uncheck unselect",
    "like | dislike",
    "agree | disagree",
    "trust | distrust mistrust",
    "appear | disappear vanish",
    "obey | disobey",
    "comply | violate",
    "help | hinder",
    "support | oppose",
    "praise | criticize criticise",
    "reward | punish",
    "attack | defend",
    "invade | retreat",
    "build construct | demolish destroy",
    "repair fix mend | break damage ruin",
    "heal cure | harm hurt injure",
    "remember | forget forgot forgotten",
    "teach taught | learn learnt",
    "ask | answer",
    "send sent | receive",
    "give gave given | take took taken receive",
    "borrow | lend lent",
    "buy bought purchase | sell sold",
    "deposit | withdraw withdrew withdrawn withdrawal",
    "save | spend spent",
    "earn | lose lost",
    "win won | lose lost",
    "pass | fail failure",
    "succeed success | fail failure",
    "find found | lose lost",
    "gain | lose lost",
    "lift raise | lower drop",
    "raise | cut",
    "increase grow raise boost expand rise | decrease reduce shrink lower lessen decline diminish cut",
    "increase maximize maximise | decrease minimize minimise",
    "accelerate speed+up | decelerate slow+down",
    "strengthen | weaken",
    "tighten | loosen",
    "widen broaden | narrow",
    "lengthen extend | shorten abbreviate",
    "heat warm warmer hot hotter | cool cooler cold colder chill",
    "melt thaw | freeze froze frozen",
    "inflate inflation | deflate deflation",
    "ascend climb | descend",
    "ascending | descending",
    "float | sink sank sunk",
    "inhale | exhale",
    "laugh | weep cry",
    "wake woke | sleep slept",
    "live alive | die dead died dying",
    "born birth | death",
    "love adore | hate loathe despise",
    "marry marriage | divorce",
    "tie | untie",
    "dress | undress",
    "load | unload",
    "plug | unplug",
    "zoom+in | zoom+out",
    "opt+in | opt+out",
    "check+in | check+out",
    "turn+up | turn+down",
    "scale+up | scale+down",
    "roll+forward | roll+back",
    "encourage | discourage",
    "confirm verify | cancel",
    "prevent avoid | cause induce provoke",
    "protect | expose",
    "multiply | divide",
    # Judging.
    "good great excellent | bad terrible awful evil",
    "right correct accurate | wrong incorrect inaccurate",
    "true | false",
    "real genuine authentic | fake counterfeit",
    "legal lawful | illegal unlawful",
    "safe secure | unsafe dangerous insecure risky",
    "healthy | unhealthy sick",
    "happy | sad unhappy",
    "possible | impossible",
    "fair | unfair",
    "honest | dishonest",
    "polite | rude impolite",
    "kind | cruel unkind",
    "friendly | hostile unfriendly",
    "brave courageous | cowardly fearful",
    "humble modest | arrogant",
    "patient | impatient",
    "generous | stingy greedy selfish",
    "lazy | hardworking diligent",
    "calm | anxious nervous",
    "optimistic optimist | pessimistic pessimist",
    "smart clever intelligent | stupid dumb",
    "beautiful handsome pretty attractive | ugly unattractive",
    "clean | dirty",
    "useful helpful | useless unhelpful",
    "valid | invalid",
    "active | passive inactive",
    "guilty | innocent",
    "positive | negative",
    "benefit advantage upside pros | drawback disadvantage downside cons",
    "strength | weakness",
    "hero | villain",
    "friend ally | enemy foe",
    "proud | ashamed",
    "visible | invisible",
    "mandatory required compulsory | optional voluntary",
    "temporary | permanent",
    "public | private",
    "common | rare uncommon",
    "normal | abnormal",
    "natural | artificial synthetic",
    "organic | inorganic",
    "conservative republican | liberal democrat progressive",
    "capitalism capitalist | communism communist",
    "theist religious | atheist",
    # Measuring.
    "big large huge | small little tiny",
    "high higher highest | low lower lowest",
    "tall | short",
    "long | short brief",
    "wide | narrow",
    "thick | thin",
    "deep | shallow",
    "heavy | light lightweight",
    "strong powerful | weak",
    "fast quick rapid | slow",
    "old elderly | young",
    "rich wealthy | poor broke",
    "cheap inexpensive affordable | expensive costly",
    "full | empty",
    "loud noisy | quiet silent",
    "bright | dark dim",
    "dark | light",
    "hard difficult | easy simple effortless",
    "hard | soft",
    "smooth | rough",
    "sharp | blunt dull",
    "wet humid | dry arid",
    "simple | complex complicated",
    "near close | far distant",
    "early | late",
    "single | married",
    "singular | plural",
    "maximum | minimum",
    "odd | even",
    "acid acidic | alkaline",
    "local | remote",
    "global | local",
    "urban | rural",
    "domestic national | foreign international",
    "internal interior inner inside indoor | external exterior outer outside outdoor",
    "upper | lower",
    "vertical | horizontal",
    "formal | informal",
    "manual | automatic",
    "online | offline",
    "wired | wireless",
    "synchronous | asynchronous",
    "static | dynamic",
    "mutable | immutable",
    "serial sequential | parallel",
    "client | server",
    "frontend | backend",
    "input | output",
    "sender | recipient receiver",
    "buyer customer | seller vendor",
    "employer | employee",
    "landlord | tenant",
    "teacher | student pupil",
    "parent | child",
    "winner | loser",
    "predator | prey",
    "supply | demand",
    "profit | loss",
    "asset | liability",
    "debit | credit",
    "lender | borrower",
    "asymptomatic | symptomatic",
    "introvert introverted | extrovert extroverted",
    "hypothermia | hyperthermia",
    "hypoglycemia | hyperglycemia",
    "hypotension | hypertension",
    "hypothyroidism | hyperthyroidism",
    "acute | chronic",
    "benign | malignant",
)

ALTERNATIVES: Final[tuple[str, ...]] = (
    # Direction, order, amount.
    "on | off",
    "before prior | after following",
    "previous | next",
    "first | last",
    "old older | new newer",
    "oldest earliest | newest latest",
    "more | less fewer",
    "most | least fewest",
    "many much | few little",
    "better | worse",
    "best | worst",
    "max | min",
    "above over | below under underneath beneath",
    "up upward upwards | down downward downwards",
    "left | right",
    "top | bottom | middle",
    "front | back rear",
    "forward forwards | backward backwards",
    "inside | outside",
    "inbound incoming | outbound outgoing",
    "north northern | south southern | east eastern | west western",
    "for | against",
    "ago | later",
    "since | until till",
    "always | never | sometimes",
    "all every | none",
    "everyone everybody | nobody",
    "plus | minus | times | divided",
    "add sum | subtract | multiply | divide",
    "read | write | execute",
    "get | set",
    "yes | no",
    "how | why",
    "why | when | where",
    "daily | weekly | monthly | yearly annually quarterly",
    # People and relations.
    "he him his himself | she her hers herself",
    "man men male males boy boys guy guys | woman women female females girl girls",
    "mother mom mum | father dad",
    "mother mom mum father dad parents | brother sister siblings | son daughter | husband wife | uncle aunt | cousin",
    "brother brothers | sister sisters",
    "son sons | daughter daughters",
    "husband boyfriend | wife girlfriend",
    "uncle | aunt",
    "grandfather grandpa | grandmother grandma",
    "nephew | niece",
    "king | queen",
    "prince | princess",
    "adult adults | child children kid kids | baby babies infant infants toddler toddlers",
    # Time of day and year.
    "morning | afternoon | evening | night",
    "breakfast | lunch | dinner supper",
    "spring | summer | autumn | winter",
    "day | night",
    # The body.
    (
        "head | neck | back | chest | stomach belly"
        " | shoulder | elbow | wrist | finger fingers | thumb | knee | ankle"
        " | foot feet | toe | hip | eye eyes | ear ears | nose | mouth | tooth teeth | tongue | jaw | chin | skin"
        " | rib ribs | spine | butt | thigh | heel | forehead | cheek | lip lips | leg legs | arm arms | hand hands"
    ),
    "heart | lung lungs | liver | kidney kidneys | brain | bladder | pancreas | stomach",
    # Things that are one or the other.
    "red | green | blue | yellow | orange | purple | pink | brown | black | white | grey gray",
    "visa | mastercard | amex | discover | paypal | venmo",
    "cat cats kitten kittens | dog dogs puppy puppies | horse horses | rabbit rabbits | hamster hamsters | bird birds",
    "beef | pork | chicken | lamb | tofu",
    "tea | coffee",
    "car cars | bike bikes bicycle bicycles | bus buses | train trains | plane planes | boat boats | truck trucks",
    "breadth | depth",
    "mean average | median | mode",
    "protons | neutrons | electrons",
    "mercury | venus | earth | mars | jupiter | saturn | uranus | neptune | pluto",
    "virus viral | bacteria bacterial | fungus fungal",
    "checking | savings",
    "android | ios iphone ipad",
    "windows | linux ubuntu | macos mac osx",
    "chrome | firefox | safari | edge",
    "mysql | postgres postgresql | sqlite | mongodb | redis | oracle",
    "aws | azure | gcp",
    "git | svn | mercurial",
    "json | yaml | xml | csv | toml",
    "png | jpg jpeg | gif | svg | webp",
    "pdf | docx | xlsx | pptx",
    "word | excel | powerpoint | outlook",
    "facebook | instagram | twitter | whatsapp | snapchat | tiktok | linkedin | youtube | reddit | quora",
    "staging | production",
    (
        "python | java | javascript js | typescript ts | golang | rust | ruby | php | perl | swift | kotlin | scala"
        " | haskell | matlab | bash | powershell | cobol | fortran | lua | julia"
    ),
    "react | angular | vue | svelte",
    "django | flask | fastapi | rails | laravel",
    "pytorch | tensorflow | jax | keras",
    "numpy | pandas",
)

LANGUAGES: Final[str] = (
    "english | spanish | french | german | italian | portuguese | dutch | russian | chinese mandarin | cantonese"
    " | japanese | korean | arabic | hindi | bengali | urdu | turkish | polish | ukrainian | greek | hebrew | swedish"
    " | norwegian | danish | finnish | czech | hungarian | romanian | vietnamese | thai | indonesian | malay | tamil"
    " | telugu | marathi | gujarati | punjabi | persian farsi | swahili | latin | esperanto | tagalog"
)

COUNTRIES: Final[str] = (
    "india indian indians | pakistan pakistani | china chinese | japan japanese | america american americans usa"
    " | canada canadian | mexico mexican | brazil brazilian | argentina argentinian | chile chilean"
    " | colombia colombian"
    " | britain british uk england english | scotland scottish | ireland irish | france french | germany german"
    " | spain spanish | italy italian | portugal portuguese | netherlands dutch | belgium belgian | switzerland swiss"
    " | austria austrian | sweden swedish | norway norwegian | denmark danish | finland finnish | poland polish"
    " | russia russian | ukraine ukrainian | greece greek | turkey turkish | israel israeli | iran iranian"
    " | iraq iraqi | egypt egyptian | nigeria nigerian | kenya kenyan | ethiopia ethiopian | australia australian"
    " | korea korean | vietnam vietnamese | thailand thai | indonesia indonesian | philippines filipino"
    " | malaysia malaysian | singapore | bangladesh bangladeshi | nepal nepali | saudi | qatar | dubai uae"
)

PLACES: Final[str] = (
    "london | paris | berlin | madrid | rome | vienna | amsterdam | brussels | lisbon | dublin | edinburgh | moscow"
    " | istanbul | athens | prague | warsaw | budapest | stockholm | oslo | copenhagen | helsinki | zurich | geneva"
    " | munich | hamburg | frankfurt | milan | barcelona | boston | chicago | seattle | denver | dallas | houston"
    " | austin | atlanta | miami | philadelphia | detroit | phoenix | toronto | montreal | vancouver | sydney"
    " | melbourne | tokyo | osaka | kyoto | beijing | shanghai | seoul | bangkok | mumbai | delhi | bangalore"
    " | hyderabad | chennai | kolkata | pune | cairo | lagos | nairobi | johannesburg"
    " | texas | california | florida | ohio | nevada | oregon | utah | arizona | colorado | hawaii | alaska"
)

GIVEN_NAMES: Final[str] = (
    "james | john | robert | michael | william | david | richard | joseph | thomas | charles | christopher | daniel"
    " | matthew | anthony | donald | steven | paul | andrew | joshua | kenneth | kevin | brian | george | edward"
    " | ronald | timothy | jason | jeffrey | ryan | jacob | gary | nicholas | eric | jonathan | stephen | larry"
    " | justin | scott | brandon | benjamin | samuel | gregory | patrick | alexander | jack | dennis | jerry | peter"
    " | mary | patricia | jennifer | linda | elizabeth | barbara | susan | jessica | sarah | karen | lisa | nancy"
    " | betty | sandra | margaret | ashley | kimberly | emily | donna | michelle | carol | amanda | melissa | deborah"
    " | stephanie | rebecca | sharon | laura | cynthia | amy | kathleen | angela | anna | emma | nicole | helen"
    " | samantha | katherine | christine | rachel | maria | olivia | natalie | sophia | isabella | alice | bob"
)

ORGANISATIONS: Final[str] = (
    "google | microsoft | apple | amazon | facebook | netflix | tesla | uber | lyft | airbnb | samsung | nokia | sony"
    " | intel | amd | nvidia | openai | anthropic | ibm | toyota | honda | ford | bmw | nike | adidas | walmart"
    " | target | costco | starbucks | mcdonalds | hdfc | icici | jio | airtel | verizon | infosys | wipro | tcs"
    " | harvard | stanford | oxford | cambridge | mit | yale | princeton"
)
