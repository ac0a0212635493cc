/// One letter with 300,000 marks, in an order that is not the canonical one: to compare, split or look through it as a `String` takes most of a minute each time.
let hostileLetter = "a" + String(repeating: "\u{315}\u{300}", count: 150_000)

/// The same with a million, where a head's limit does not apply: as a `String` it takes longer than a test may.
let endlessLetter = "a" + String(repeating: "\u{315}\u{300}", count: 500_000)
