import OrderedCollections
import OrderedJSON
import Simulator

@testable import TestSupport

/// What the chaos test does, drawn from a seed: the jobs, how each is asked for and watched, and what goes wrong when.
struct ChaosPlan: Sendable {
    enum Kind: String, Sendable, CaseIterable { case picture, sampler, websocket, delay, failing }

    enum Caller: Sendable {
        /// Blocks on `/run`; base64: for the bytes too.
        case run(base64: Bool)
        /// Blocks on `/run` as an event stream.
        case stream
        /// `/api/v2/jobs` and viewers, of which the job is canceled by one after so many events.
        case submit(cancelAfter: Int?)
    }

    struct Job: Sendable {
        let number: Int
        let kind: Kind
        let graph: JSON
        let caller: Caller
        /// What strikes this job alone, and on which simulators.
        let order: FaultOrder?
        let simulators: [Int]

        var isCanceled: Bool { if case .submit(.some) = caller { true } else { false } }
        /// Runs that end in a failure, or in something that cannot be read, after which the job is to run again.
        var repeatedFailures: Int {
            guard let order, [.outOfMemory, .deviceError].contains(order.fault.kind) || order.fault == .historyOutputs(.garbage) else { return 0 }
            return simulators.count * (order.times ?? 1)
        }
        /// ComfyUI says of it that it has no outputs.
        var mayLackOutputs: Bool { order?.fault == .historyOutputs(.empty) }
    }

    static let simulators = 2

    let seed: UInt64
    private(set) var jobs: [Job] = []
    /// For each simulator what strikes any request, from the beginning on.
    private(set) var orders: [[FaultOrder]] = []
    /// What happens to a simulator when so many jobs are over.
    private(set) var actions: [Int: (simulator: Int, action: ComfySimulator.Action)] = [:]

    init(seed: UInt64, jobs count: Int) {
        self.seed = seed
        var random = SeededGenerator(seed: seed)
        jobs = (1...count).map { Self.job($0, &random) }
        orders = (0..<Self.simulators).map { _ in Self.answers.map { FaultOrder($0, only: $1, times: 6, probability: $2) } }
        var ended = 5
        while ended < count - 10 {
            actions[ended] = (.random(in: 0..<Self.simulators, using: &random), Self.action(&random))
            ended += .random(in: 5...20, using: &random)
        }
    }

    // MARK: Jobs

    private static func job(_ number: Int, _ random: inout SeededGenerator) -> Job {
        let kind = [Kind.picture, .picture, .sampler, .sampler, .sampler, .websocket, .delay, .failing].randomElement(using: &random)!
        let caller: Caller =
            switch Int.random(in: 0..<10, using: &random) {
            case 0...1: .run(base64: false)
            case 2: .run(base64: true)
            case 3...4: .stream
            case 5: .submit(cancelAfter: .random(in: 0...6, using: &random))
            default: .submit(cancelAfter: nil)
            }
        let marker = "chaos-\(number)-"
        let isStruck = Bool.random(using: &random)
        let order = isStruck ? FaultOrder(fault(&random), only: marker, times: Int.random(in: 0..<5, using: &random) == 0 ? 2 : 1) : nil
        let graph = graph(kind, number: number, &random)
        return Job(
            number: number, kind: kind, graph: titled(graph, marker), caller: caller, order: order,
            simulators: [[0], [1], [0], [1], [0, 1]].randomElement(using: &random)!)
    }

    private static func graph(_ kind: Kind, number: Int, _ random: inout SeededGenerator) -> JSON {
        switch kind {
        case .picture: Graph.picture(seed: number)
        case .sampler: Graph.sampler(steps: .random(in: 1...3, using: &random), seed: "\(number)")
        case .delay: Graph.delay(milliseconds: .random(in: 20...120, using: &random), seed: number)
        case .failing: Graph.fails("fails as it should")
        case .websocket:
            [
                "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": JSON(Int.random(in: 1...3, using: &random)), "color": JSON(number)]],
                "2": ["class_type": "SaveImageWebsocket", "inputs": ["images": ["1", 0]]],
            ]
        }
    }

    /// A title in one node, by which the simulator's faults find the graph.
    private static func titled(_ graph: JSON, _ title: String) -> JSON {
        guard var nodes = graph.object, let (id, node) = nodes.first, var members = node.object else { return graph }
        members["_meta"] = ["title": .string(title)]
        nodes[id] = .object(members)
        return .object(nodes)
    }

    // MARK: Faults

    private static func fault(_ random: inout SeededGenerator) -> Fault {
        let moment = [Moment.submit, .start, .node, .step(1), .step(2), .success, .end].randomElement(using: &random)!
        let message = [Fault.FinalMessage.end, .outcome, .both].randomElement(using: &random)!
        return switch Int.random(in: 0..<28, using: &random) {
        case 0...5: .cut(moment)
        case 6...7: .mute(moment)
        case 8: .halfOpen(moment)
        case 9...10: .exit(moment)
        case 11...13: .dropFinal(message)
        case 14...15: .duplicateFinal(message)
        case 16: .delayFinal(milliseconds: .random(in: 50...400, using: &random))
        case 17: .historyMissing
        // Shorter than the pause before the bridge's second look.
        case 18: .historyLate(milliseconds: .random(in: 20...150, using: &random))
        case 19...21: .historyOutputs([.renamed, .empty, .garbage].randomElement(using: &random)!)
        case 22...23: .outOfMemory(.node)
        case 24: .deviceError(.node)
        case 25: .lyingLength(Int.random(in: 0...0xFFFF_FFFF, using: &random))
        case 26: .hugeFrame(megabytes: 2)
        default: .clock(milliseconds: .random(in: -3_600_000...3_600_000, using: &random))
        }
    }

    /// What goes wrong with any request of the kind, and how probably.
    private static let answers: [(Fault, String, Double)] = [
        (.errorAfter(500), "POST /prompt", 0.03), (.noAnswer, "POST /prompt", 0.03), (.hangUp, "POST /prompt", 0.03), (.html(200), "POST /prompt", 0.02),
        (.html(502), "POST /prompt", 0.02), (.garbage, "POST /prompt", 0.02), (.delayAnswer(milliseconds: 200), "POST /prompt", 0.03),
        (.error(503), "POST /prompt", 0.01),
        (.error(500), "GET /queue", 0.1), (.garbage, "GET /queue", 0.05), (.html(200), "GET /history", 0.1), (.hangUp, "GET /history", 0.1),
        (.hangUp, "HEAD /view", 0.05), (.error(500), "GET /view", 0.1), (.breakOff(percent: 50), "GET /view", 0.1),
        (.slow(bytesPerSecond: 2000), "GET /view", 0.1), (.hangUp, "GET /ws", 0.1), (.html(200), "GET /ws", 0.1), (.mute(.connect), "", 0.1),
        (.cut(.connect), "", 0.1), (.halfOpen(.connect), "", 0.05), (.refuse(milliseconds: 100), "", 0.005),
    ]

    private static func action(_ random: inout SeededGenerator) -> ComfySimulator.Action {
        switch Int.random(in: 0..<8, using: &random) {
        case 0...1: .cut
        case 2: .mute
        case 3: .halfOpen
        case 4: .refuse(.milliseconds(.random(in: 50...300, using: &random)))
        case 5: .exit
        default: .restart(after: .milliseconds(.random(in: 20...300, using: &random)), keepsFiles: true)
        }
    }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
