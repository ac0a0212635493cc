import Testing

@testable import Jobs
@testable import Workers
@testable import Workflow

/// All orders in which up to six things can happen to an attempt, by group of inputs; and of up to four of the whole alphabet.
@Suite struct AttemptOrdersTests {
    typealias Happening = AttemptScript.Happening

    struct Group: Sendable, CustomTestStringConvertible {
        let name: String
        var entry = Attempt.Entry.submit
        var classType = "SaveImage"
        var depth = 6
        /// Seconds from one happening to the next.
        var pace = 0
        /// At least so many orders, lest a change of the test leaves nothing of it.
        let count: Int
        let letters: [Happening]

        var testDescription: String { name }
    }

    private static let answers: [Happening] = [.accepted, .partly, .refused, .notDelivered, .notReached, .found, .unknown]
    private static let messages: [Happening] = [.start, .node, .output, .success, .failure, .interrupted, .ended]
    private static let verdicts: [Happening] = [
        .waiting, .behindOwn, .behindStranger, .running, .runningUnheard, .succeeded, .failed, .wasInterrupted, .absent, .unreadable, .noVerdict, .noVerdictAway,
    ]
    private static let others: [Happening] = [
        .queued, .left, .lostTouch, .reconnected, .away, .awayElsewhere, .awayAlone, .silent, .overtaken, .endDue, .deadline, .cancel, .stuck, .stuckBehind,
    ]
    static let alphabet = answers + messages + [.picture] + verdicts + others

    private static let now = ContinuousClock.now
    private static let adopted = Attempt.Entry.adopt(runningSince: now - .seconds(40), isConnected: true)

    static let groups: [Group] = [
        Group(name: "Submit against messages", count: 140_000, letters: answers + messages + [.cancel]),
        Group(name: "Messages against breaks", count: 56_000, letters: [.accepted] + messages + [.lostTouch, .reconnected, .succeeded, .running, .absent]),
        Group(
            name: "Messages against the books", count: 119_000,
            letters: [.accepted, .unknown, .start, .output, .success, .ended, .silent, .endDue, .overtaken, .behindOwn, .running, .succeeded, .absent, .unreadable, .noVerdict]),
        Group(
            name: "Pictures of the socket", classType: "SaveImageWebsocket", count: 56_000,
            letters: [.accepted, .found, .start, .node, .picture, .success, .ended, .lostTouch, .reconnected, .silent, .running, .succeeded, .absent]),
        Group(
            name: "Giving back", count: 106_000,
            letters: [.accepted, .partly, .found, .start, .interrupted, .ended, .cancel, .deadline, .stuck, .running, .wasInterrupted, .absent, .unreadable]),
        Group(
            name: "Giving back, slowly", pace: 6, count: 144_000,
            letters: [.accepted, .unknown, .start, .cancel, .deadline, .stuck, .stuckBehind, .waiting, .behindStranger, .running, .absent, .silent]),
        Group(
            name: "Away", pace: 3, count: 53_000,
            letters: [
                .accepted, .unknown, .notReached, .start, .success, .ended, .lostTouch, .reconnected, .away, .awayElsewhere, .awayAlone, .noVerdict, .noVerdictAway,
                .cancel, .absent,
            ]),
        Group(
            name: "Adoption", entry: adopted, count: 200_000,
            letters: [.start, .success, .ended, .cancel, .deadline, .silent, .lostTouch, .reconnected, .running, .succeeded, .absent, .unreadable, .noVerdict]),
        Group(
            name: "Adoption, away", entry: .adopt(runningSince: nil, isConnected: false), pace: 3, count: 69_000,
            letters: [.reconnected, .lostTouch, .away, .awayAlone, .noVerdictAway, .noVerdict, .start, .success, .ended, .cancel, .running, .succeeded, .absent]),
        Group(name: "Everything", depth: 4, count: 108_000, letters: alphabet),
        Group(name: "Everything, slowly", depth: 4, pace: 11, count: 108_000, letters: alphabet),
    ]

    @Test("Every order ends once, loses no end and does nothing after it", arguments: groups)
    func everyOrder(_ group: Group) throws {
        let search = OrderSearch(group)
        try search.run(from: AttemptScript(group.entry, classType: group.classType, at: Self.now))
        #expect(search.faults.isEmpty, "\(group.name): \(search.faultCount) of \(search.count) orders")
        #expect(search.count >= group.count)
        #expect(search.endCount > 0)
    }
}

/// What may happen next, and what has been asked for.
private struct World {
    /// How far the run is, as the socket told.
    enum Place: Int, Comparable {
        case none, started, node, result, outcome, ended
        static func < (left: Place, right: Place) -> Bool { left.rawValue < right.rawValue }
    }

    let isSubmitted: Bool
    var isAnswered: Bool
    var isConnected: Bool
    var place = Place.none
    /// Messages may be missing behind the last one.
    var hasGap: Bool
    /// Messages may be missing at all, or do not fit together.
    var hadGap: Bool
    var outcome: Execution.Ending?
    /// The messages told the beginning, how it went and the end, and none is missing.
    var knownEnding: Execution.Ending?
    var isCanceled = false
    var isDoubted = false

    var submits = 0, questions = 0, withdrawals = 0, isTakingBack = false
    var endTimers = 0, deadlines = 0, starts = 0, fails = 0, executed = 0, collected = 0, captured = 0
    var end: AttemptEnd?

    init(_ entry: Attempt.Entry) {
        switch entry {
        case .submit: (isSubmitted, isAnswered, isConnected, hasGap) = (true, false, true, false)
        case .adopt(_, let isConnected): (isSubmitted, isAnswered, self.isConnected, hasGap) = (false, true, isConnected, true)
        }
        hadGap = hasGap
    }

    var isAsked: Bool { questions + withdrawals > 0 || isTakingBack }

    func allows(_ happening: AttemptScript.Happening, _ classType: String) -> Bool {
        let isMade = classType == "SaveImage" ? AttemptScript.Happening.output : .picture
        switch happening {
        case .pass, .begin: return false
        case .accepted, .partly, .refused, .notDelivered, .notReached, .found, .unknown: return !isAnswered
        case .start: return isConnected && place == .none
        case .node: return follows(.started)
        case .output, .picture: return happening == isMade && follows(.node)
        // An end before the beginning is, late, that of an earlier run.
        case .success: return follows(.result) || (isConnected && place == .none)
        case .failure, .interrupted: return isConnected && place < .outcome
        case .ended: return follows(.outcome) || (isConnected && place == .none)
        case .waiting, .behindOwn, .behindStranger, .running, .runningUnheard, .succeeded, .failed, .wasInterrupted, .absent, .unreadable, .noVerdict, .noVerdictAway:
            return isAsked
        case .queued, .left, .overtaken: return isConnected
        case .lostTouch, .silent, .stuck, .stuckBehind: return true
        case .reconnected, .away, .awayElsewhere, .awayAlone: return !isConnected
        case .endDue: return endTimers > 0
        case .deadline: return deadlines > 0
        case .cancel: return !isCanceled
        }
    }

    private func follows(_ before: Place) -> Bool { isConnected && (place == before || (hasGap && place < before)) }

    mutating func happens(_ happening: AttemptScript.Happening) {
        switch happening {
        case .accepted, .partly, .refused, .notDelivered, .notReached, .unknown: isAnswered = true
        case .found: (isAnswered, hadGap, hasGap) = (true, true, true)
        case .start: move(to: .started)
        case .node: move(to: .node)
        case .output, .picture: move(to: .result)
        case .success: decide(.succeeded)
        case .failure: decide(.failed(JobError(code: .nodeExecutionError, message: "")))
        case .interrupted: decide(.interrupted)
        case .ended:
            guard place != .none || hasGap else { return hadGap = true }
            if place == .outcome, !hadGap { knownEnding = outcome }
            move(to: .ended)
        case .waiting, .behindOwn, .behindStranger, .running, .runningUnheard, .succeeded, .failed, .wasInterrupted, .absent, .unreadable, .noVerdict, .noVerdictAway:
            if questions > 0 { questions -= 1 } else if withdrawals > 0 { withdrawals -= 1 }
        case .lostTouch: (isConnected, hasGap, hadGap) = (false, true, true)
        case .reconnected: isConnected = true
        case .endDue: endTimers -= 1
        case .deadline: deadlines -= 1
        case .cancel: isCanceled = true
        case .stuck, .stuckBehind: isDoubted = true
        case .pass, .begin, .queued, .left, .overtaken, .silent, .away, .awayElsewhere, .awayAlone: break
        }
    }

    private mutating func move(to place: Place) { (self.place, hasGap) = (place, false) }

    private mutating func decide(_ ending: Execution.Ending) {
        // Whose end it is cannot be said: what follows may still be anything.
        guard place != .none else { return hadGap = true }
        outcome = ending
        move(to: .outcome)
    }
}

/// Depth first over the value: orders share their beginnings.
private final class OrderSearch {
    private let group: AttemptOrdersTests.Group
    private(set) var count = 0
    private(set) var endCount = 0
    private(set) var faultCount = 0
    /// The first ones: the order, and what is wrong.
    private(set) var faults: [String] = []
    private var order: [AttemptScript.Happening] = []

    init(_ group: AttemptOrdersTests.Group) { self.group = group }

    func run(from script: AttemptScript) {
        var (script, world) = (script, World(group.entry))
        perform(script.play(.begin), &world)
        if world.submits != (world.isSubmitted ? 1 : 0) { fault("submits at the beginning: \(world.submits)") }
        extend(script, world)
    }

    private func extend(_ script: AttemptScript, _ world: World) {
        guard order.count < group.depth else { return checkWayOut(of: script, world) }
        for letter in group.letters where world.allows(letter, group.classType) {
            var (script, world) = (script, world)
            order.append(letter)
            count += 1
            _ = script.play(.pass(group.pace))
            let submits = world.submits
            world.happens(letter)
            perform(script.play(letter), &world)
            if world.submits != submits { fault("another submit") }
            check(world, after: letter)
            if world.end == nil {
                extend(script, world)
            } else {
                endCount += 1
                checkSilence(after: script)
            }
            order.removeLast()
        }
    }

    private func perform(_ effects: [Attempt.Effect], _ world: inout World) {
        for effect in effects {
            if world.end != nil { fault("\(effect) after the end") }
            switch effect {
            case .submit: world.submits += 1
            case .inquire:
                world.questions += 1
                if !world.isAnswered { fault("a question before the submit is answered") }
                if world.questions > 1 { fault("two questions at a time") }
            case .takeBack:
                if !world.isAnswered { fault("taken back before the submit is answered") }
                if world.isTakingBack { fault("taken back twice") }
                world.isTakingBack = true
            case .withdraw:
                if !world.isAnswered || world.isTakingBack { fault("a withdrawal out of place") }
                world.withdrawals += 1
            case .wait(_, .endDue): world.endTimers += 1
            case .wait(_, .deadline): world.deadlines += 1
            case .started: world.starts += 1
            case .collect: world.collected += 1
            case .capture: world.captured += 1
            case .executed: world.executed += 1
            case .fail:
                world.fails += 1
                if world.isCanceled { fault("a canceled job fails") }
            case .end(let end): world.end = end
            case .doubt: world.isDoubted = true
            case .wait, .reconnect, .watchSilence, .delivered, .adopted, .publish, .preview, .waits, .noteAbsence, .noteReturn, .turnAwayCallers: break
            }
        }
    }

    private func check(_ world: World, after letter: AttemptScript.Happening) {
        if world.starts > 1 { fault("started \(world.starts) times") }
        if world.fails > 1 { fault("failed \(world.fails) times") }
        if world.executed > 1 { fault("executed \(world.executed) times") }
        if letter == .partly, !world.isCanceled, world.fails != 1 { fault("outputs were left out, and the job does not fail") }
        guard let end = world.end else {
            if world.knownEnding != nil, world.isAnswered { fault("the end is known, and goes on") }
            if world.isAnswered, world.isCanceled || world.fails > 0, !world.isTakingBack { fault("nobody wants it, and it is not taken back") }
            return
        }
        if case .ended(.succeeded) = end, group.classType == "SaveImage" ? world.collected == 0 : world.captured == 0 { fault("succeeded without results") }
        if let known = world.knownEnding, !fits(end, known, world) { fault("\(known) is known, and it ends as \(end.word)") }
    }

    private func fits(_ end: AttemptEnd, _ known: Execution.Ending, _ world: World) -> Bool {
        switch (end, known) {
        case (.ended(.succeeded), .succeeded), (.ended(.failed), .failed), (.ended(.interrupted), .interrupted): true
        case (.lost(.stalled), .interrupted): world.isDoubted
        default: false
        }
    }

    /// After the end nothing is performed.
    private func checkSilence(after script: AttemptScript) {
        var script = script
        for letter in AttemptOrdersTests.alphabet where !script.play(letter).isEmpty { fault("\(letter) after the end is answered") }
    }

    /// Wherever an order leaves it, the books can end the attempt.
    private func checkWayOut(of script: AttemptScript, _ world: World) {
        var (script, world) = (script, world)
        if !world.isAnswered {
            world.happens(.unknown)
            perform(script.play(.unknown), &world)
        }
        if world.end == nil, !world.isAsked { perform(script.play(.silent), &world) }
        if world.end == nil, !world.isAsked { fault("silence, and nobody asks") }
        if world.end == nil { perform(script.play(.absent), &world) }
        if world.end == nil { fault("ComfyUI does not have it, and it goes on") }
        check(world, after: .absent)
    }

    private func fault(_ what: String) {
        faultCount += 1
        if faults.count < 10 { faults.append("\(order.map { "\($0)" }.joined(separator: " ")): \(what)") }
    }
}
