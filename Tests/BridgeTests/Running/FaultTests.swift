import InMemoryLogging
import Logging
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers

/// What goes wrong inside ComfyUI or between it and the bridge, at each moment of a job's life: how the job ends, and how often it ran.
@Suite(.timeLimit(.minutes(5))) struct FaultTests {
    private static let quick = ["--upstream-silence", "0.2"]

    /// A graph with steps and previews, and a letter by which it is recognised.
    private func graph(_ seed: Int = 1) -> JSON { Graph.sampler(steps: 3, seed: "\(seed)") }

    private func withFaults(
        _ orders: [(Fault, Int?)], _ flags: [String] = quick, simulator change: (inout ComfySimulator.Configuration) -> Void = { _ in },
        _ body: (RunningBridge, ComfySimulator) async throws -> Void
    ) async throws {
        try await withBridge(
            flags,
            simulator: {
                $0.restartDelay = .milliseconds(50)
                change(&$0)
            }
        ) { bridge, simulator in
            for (fault, times) in orders { simulator.faults.arm(fault, times: times) }
            try await body(bridge, simulator)
        }
    }

    // MARK: The socket

    @Test(
        "A socket that breaks, or goes silent, costs nobody anything",
        arguments: [
            Fault.cut(.submit), .cut(.start), .cut(.node), .cut(.step(2)), .cut(.success), .cut(.end), .mute(.submit), .mute(.start), .mute(.node), .mute(.step(2)),
            .mute(.success), .mute(.end), .dropFinal(.end), .dropFinal(.outcome), .dropFinal(.both), .duplicateFinal(.end), .duplicateFinal(.outcome),
            .duplicateFinal(.both), .delayFinal(milliseconds: 500), .historyLate(milliseconds: 150), .historyMissing,
        ])
    func socket(_ fault: Fault) async throws {
        try await withFaults([(fault, 1)]) { bridge, simulator in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 200)
            #expect(try answer.json["outputs"]?.array?.count == 1)
            #expect(simulator.statistics.faultsFired == [fault.kind: 1])
            #expect(simulator.statistics.promptsRun.map(\.value) == [1])
        }
    }

    @Test(
        "A socket that ComfyUI has forgotten is replaced soon after the next submit, whatever runs",
        arguments: [
            Fault.mute(.connect), .mute(.submit), .mute(.start), .mute(.end), .halfOpen(.submit),
        ])
    func registration(_ fault: Fault) async throws {
        try await withSimulator { simulator, port in
            if fault == .mute(.connect) { simulator.faults.arm(fault, times: 1) }
            try await withBridge([port], Self.quick) { bridge in
                if fault != .mute(.connect) { simulator.faults.arm(fault, times: 1) }
                // Its events are missed, its end is not.
                #expect(try await bridge.run(graph()).status == 200)
                // Without a registered connection this never ends: previews are sent over the socket only.
                var seed = 1
                var previews = 0
                while previews < 3 {
                    seed += 1
                    let next = try await bridge.submit(graph(seed))
                    previews = try await bridge.events(of: next, query: "?last_event_id=0").count { $0.name == "preview" }
                }
                #expect(simulator.statistics.promptsRun.allSatisfy { $0.value == 1 })
            }
        }
    }

    @Test func aSocketThatIsForgottenInTheMiddleOfARunIsReplacedAfterADeadConnection() async throws {
        try await withBridge(Self.quick, simulator: { $0.stepDelay = .milliseconds(100) }) { bridge, simulator in
            simulator.faults.arm(.halfOpen(.submit), times: 1)
            let job = try await bridge.submit(Graph.sampler(steps: 300))
            // Nothing comes over the dead connection: previews are of the one after it.
            try await bridge.events(of: job) { $0.name == "preview" }
            try await simulator.perform(.noticeHalfOpen)
            let sent = simulator.statistics.framesSent
            try await simulator.until("more is sent") { $0.framesSent >= sent + 5 }
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(job)/cancel")
            #expect(try await bridge.events(of: job).last?.json["status"] == "canceled")
        }
    }

    @Test func resultsThatOnlyTheSocketCarriesAreMadeAgainWhenTheyWereMissed() async throws {
        let graph: JSON = [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 2, "color": 5]],
            "2": ["class_type": "SaveImageWebsocket", "inputs": ["images": ["1", 0]]],
        ]
        // The cut is noticed by itself. In what counts as silence messages of a starved machine could be on their way.
        try await withFaults([(.cut(.node), 1)], []) { bridge, simulator in
            let answer = try await bridge.run(graph)
            #expect(answer.status == 200)
            #expect(try answer.json["outputs"]?.array?.count == 2)
            #expect(simulator.statistics.promptsRun.map(\.value) == [2])
        }
        try await withFaults([(.cut(.node), 1)], ["--retries", "0"]) { bridge, _ in
            let answer = try await bridge.run(graph)
            #expect(answer.status == 502)
            #expect(answer.errorCode == "upstream_lost")
        }
    }

    @Test("What the next run overtakes is over at once", arguments: [[], [Fault.cut(.node)]])
    func overtaking(before: [Fault]) async throws {
        try await withFaults([(.dropFinal(.both), 1)] + before.map { ($0, 1) }, ["--upstream-silence", "600"]) { bridge, simulator in
            let first = Task { try await bridge.run(Graph.delay(milliseconds: 200)).status }
            try await simulator.firstRun()
            let second = try await bridge.run(graph(2))
            #expect(second.status == 200)
            // Nothing but the second run's beginning tells that the first is over.
            #expect(try await first.value == 200)
            #expect(simulator.statistics.promptsRun.map(\.value) == [1, 1])
        }
    }

    enum Hidden: Sendable, CaseIterable { case success, failure, interrupt }

    @Test(
        "A last message that does not come is not waited for",
        arguments: [
            (Fault.dropFinal(.end), Hidden.success), (.dropFinal(.end), .failure),
            (.dropFinal(.end), .interrupt), (.dropFinal(.both), .success), (.dropFinal(.both), .failure),
        ])
    func hiddenEnds(_ fault: Fault, _ end: Hidden) async throws {
        // Silence tells nothing here.
        try await withFaults([(fault, 1)], ["--upstream-silence", "600"]) { bridge, simulator in
            switch end {
            case .success: #expect(try await bridge.run(graph()).status == 200)
            case .failure: #expect(try await bridge.run(Graph.fails("no luck")).errorCode == "node_execution_error")
            case .interrupt:
                let upstream = try await bridge.upstream()
                let id = try await bridge.submit(Graph.delay(milliseconds: 600_000))
                // From the first event on: the present does not tell of nodes.
                try await bridge.events(of: id, query: "?last_event_id=0", until: { $0.name == "node" && $0.json["node_id"] == "2" })
                _ = try await bridge.send(.POST, "\(upstream)/interrupt")
                #expect(try await bridge.events(of: id).last?.json["status"] == "canceled")
            }
            #expect(simulator.statistics.promptsRun.map(\.value) == [1])
        }
    }

    @Test func anEndThatIsHiddenInTheHistoryTooIsAskedForAgain() async throws {
        try await withFaults([(.dropFinal(.end), 1), (.historyLate(milliseconds: 1500), 1)], ["--upstream-silence", "600"]) { bridge, _ in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 200)
        }
    }

    @Test func aRunWhoseHistoryCannotBeReadIsMadeAgain() async throws {
        try await withFaults([(.dropFinal(.both), 1), (.historyOutputs(.garbage), 1)]) { bridge, simulator in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 200)
            #expect(try answer.json["outputs"]?.array?.count == 1)
            #expect(simulator.statistics.promptsRun.map(\.value) == [2])
        }
    }

    // MARK: The submit

    @Test(
        "A submit without a clear answer is looked for before it is sent again",
        arguments: [
            (Fault.errorAfter(500), 200), (.noAnswer, 200), (.html(200), 200), (.html(502), 200), (.garbage, 200), (.endless, 200), (.delayAnswer(milliseconds: 300), 200),
            (.hangUp, 200), (.refuse(milliseconds: 100), 200), (.error(500), 502), (.error(413), 413),
        ])
    func submit(_ fault: Fault, _ status: Int) async throws {
        try await withBridge(Self.quick) { bridge, simulator in
            simulator.faults.arm(fault, only: fault.kind == .refuse ? nil : "POST /prompt", times: 1)
            if fault.kind == .refuse { try await simulator.perform(.cut) }
            let answer = try await bridge.run(graph())
            #expect(answer.status == status)
            #expect(simulator.statistics.promptsRun.map(\.value) == (status == 200 ? [1] : []))
        }
    }

    @Test func jobsWaitForAComfyUIThatIsAwayWhileItsSocketLooksAlive() async throws {
        try await withBridge(Self.quick) { bridge, simulator in
            try await simulator.perform(.halfOpen)
            try await simulator.perform(.exit)  // and nobody restarts it for now
            let callers = (1...3).map { seed in Task { try await bridge.run(graph(seed)).status } }
            // Each has been tried more often than what is merely refused would be.
            try await bridge.until(isConnected: false)
            try await simulator.perform(.restart(after: .zero, keepsFiles: true))
            for caller in callers { #expect(try await caller.value == 200) }
            #expect(simulator.statistics.promptsRun.map(\.value) == [1, 1, 1])
        }
    }

    // MARK: The outputs

    @Test func theSizeOfAnOutputIsKnownAlsoIfComfyUIIsRestartedRightAfterTheRun() async throws {
        try await withBridge(Self.quick, simulator: { $0.restartDelay = .milliseconds(300) }) { bridge, simulator in
            simulator.faults.arm(.hangUp, only: "HEAD /view", times: 3)
            let answer = try await bridge.run(graph())
            #expect(answer.status == 200)
            #expect(try answer.json["outputs"]?[0]?["size_bytes"]?.int ?? 0 > 0)
            #expect(try answer.json["outputs"]?[0]?["content_type"]?.string == "image/png")
        }
    }

    @Test("Bytes that break off are asked for again, and their job is named when they cannot be had", arguments: [(2, 200), (3, 503)])
    func bytes(_ times: Int, _ status: Int) async throws {
        try await withBridge(Self.quick) { bridge, simulator in
            simulator.faults.arm(.breakOff(percent: 50), only: "GET /view", times: times)
            let answer = try await bridge.run(graph(), query: "?outputs=base64")
            #expect(answer.status == status)
            let id = try #require(answer.headers.first(name: "Comfy-Job-Id"))
            #expect(try await bridge.job(id)["status"] == "succeeded")
            if status != 200 { #expect(try answer.json["error"]?["details"]?["job_id"]?.string == id) }
        }
    }

    // MARK: The process

    @Test("A job whose run went down with ComfyUI is run again", arguments: [Fault.exit(.submit), .exit(.start), .exit(.node), .exit(.step(2)), .exit(.success), .exit(.end)])
    func exit(_ fault: Fault) async throws {
        // The process ends in the next turn of its event loop: a run without any delay could be over by then.
        try await withFaults([(fault, 1)], simulator: { $0.stepDelay = .milliseconds(100) }) { bridge, simulator in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 200)
            #expect(try answer.json["outputs"]?.array?.count == 1)
            // Twice accepted, unless word of the first end was out before the process ended.
            let accepted = simulator.statistics.prompts.map(\.value.accepted)
            #expect(accepted == [2] || fault == .exit(.end) && accepted == [1])
        }
    }

    @Test("What takes ComfyUI down twice is not run a third time, whether or not the submit was answered before", arguments: [[], [Fault.delayAnswer(milliseconds: 3000)]])
    func poison(before: [Fault]) async throws {
        try await withFaults(
            [], Self.quick + ["--retries", "9"],
            simulator: {
                $0.stepDelay = .seconds(600)
                $0.restartDelay = .milliseconds(500)  // the socket is seen to break before ComfyUI is back
            }
        ) { bridge, simulator in
            for fault in before { simulator.faults.arm(fault, only: "POST /prompt") }
            let poison = Task { try await bridge.run(graph()) }
            let id = try await simulator.firstRun()
            // Who waits behind it is not to blame.
            let other = Task { try await bridge.run(Graph.picture()) }
            for run in 1...2 {
                // The start of a run is known only when its message was sent before the process ended; the job runs since the first.
                var starts = 0
                try await bridge.events(of: id, query: "?last_event_id=0") { event in
                    if event.name == "node", event.json["class_type"] == "KSampler", event.json["state"] == "running" { starts += 1 }
                    return starts == run
                }
                try await simulator.perform(.exit)
            }
            let answer = try await poison.value
            #expect(answer.status == 500)
            #expect(answer.errorCode == "poison")
            let status = try await other.value.status
            #expect(status == 200)
            #expect(simulator.statistics.promptsRun[id] == 2)
        }
    }

    // MARK: The device

    @Test("Out of memory is tried once more, whichever way PyTorch says it", arguments: [Fault.outOfMemory(.node), .acceleratorOutOfMemory(.node)])
    func outOfMemory(_ fault: Fault) async throws {
        try await withFaults([(fault, 1)]) { bridge, simulator in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 200)
            #expect(simulator.statistics.promptsRun.map(\.value) == [2])
            let logs = try await bridge.events(of: try answer.json["id"]?.string ?? "", query: "?last_event_id=0").filter { $0.name == "log" }
            #expect(logs.contains { $0.json["message"]?.string?.contains("memory") == true })
        }
        try await withFaults([(fault, 2)], Self.quick + ["--retries", "9"]) { bridge, simulator in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 500)
            #expect(answer.errorCode == "out_of_memory")
            #expect(simulator.statistics.promptsRun.map(\.value) == [2])
            #expect(try await bridge.get("/readyz").json["comfyui"]?[0]?["in_rotation"] == true)
        }
    }

    @Test func aFailedDeviceIsOutOfRotationUntilAJobSucceeds() async throws {
        // The pause before the first try is as long as the silence, or ends with the connection.
        try await withFaults([(.deviceError(.node), 1)], ["--upstream-silence", "60"]) { bridge, simulator in
            let answer = try await bridge.run(graph())
            #expect(answer.status == 502)
            #expect(answer.errorCode == "device_error")
            let state = try await bridge.get("/readyz")
            #expect(state.status == 503)
            #expect(try state.json["comfyui"]?[0]?["in_rotation"] == false)
            #expect(try state.json["comfyui"]?[0]?["connected"] == true)
            #expect(try state.json["comfyui"]?[0]?["reason"]?.string?.contains("device") == true)
            try await simulator.perform(.restart(after: .milliseconds(20), keepsFiles: true))
            // One job may try.
            #expect(try await bridge.run(graph(2)).status == 200)
            let healed = try await bridge.get("/readyz")
            #expect(healed.status == 200)
            #expect(try healed.json["comfyui"]?[0]?["in_rotation"] == true)
            #expect(simulator.statistics.promptsRun.allSatisfy { $0.value == 1 })
        }
    }

    @Test func aJobWhoseDeviceFailedIsRunOnAnotherComfyUI() async throws {
        try await withSimulator { first, firstPort in
            try await withSimulator { second, secondPort in
                try await withBridge([firstPort, secondPort], ["--upstream-silence", "60"]) { bridge in
                    try await bridge.waitUntilAllAreReady()
                    first.faults.arm(.deviceError(.node))
                    for seed in 1...4 { #expect(try await bridge.run(graph(seed)).status == 200) }
                    // The first failed once, or never had one.
                    #expect(first.statistics.promptsRun.count <= 1)
                    #expect(second.statistics.promptsRun.count == 4)
                    let states = try await bridge.get("/readyz")
                    #expect(states.status == 200)
                    if !first.statistics.promptsRun.isEmpty { #expect(try states.json["comfyui"]?[0]?["in_rotation"] == false) }
                }
            }
        }
    }

    // MARK: The worker thread

    @Test("A ComfyUI whose worker thread is dead is out of rotation until it is restarted", arguments: [Fault.deadWorker(.start), .deadWorker(.node), .deadWorker(.step(2))])
    func deadWorker(_ fault: Fault) async throws {
        try await withFaults([(fault, 1)], ["--upstream-silence", "0.2", "--upstream-stall", "1", "--upstream-grace", "60"]) { bridge, simulator in
            let first = Task { try await bridge.run(graph()) }
            try await simulator.firstRun()
            // Waits inside ComfyUI, and then for a ComfyUI that works.
            let second = Task { try await bridge.run(graph(2)) }
            let answer = try await first.value
            #expect(answer.status == 502)
            #expect(answer.errorCode == "upstream_stuck")
            let state = try await bridge.get("/readyz")
            #expect(state.status == 503)
            #expect(try state.json["comfyui"]?[0]?["in_rotation"] == false)
            #expect(try state.json["comfyui"]?[0]?["connected"] == true)
            try await simulator.perform(.restart(after: .milliseconds(20), keepsFiles: true))
            #expect(try await second.value.status == 200)
            #expect(try await bridge.get("/readyz").status == 200)
            #expect(try await bridge.get("/readyz").json["comfyui"]?[0]?["in_rotation"] == true)
            #expect(simulator.statistics.promptsRun.allSatisfy { $0.value == 1 })
        }
    }

    @Test func jobsOfAStuckComfyUIAreRunOnAnother() async throws {
        try await withSimulator { first, firstPort in
            try await withSimulator { second, secondPort in
                try await withBridge([firstPort, secondPort], ["--upstream-silence", "0.2", "--upstream-stall", "1"]) { bridge in
                    try await bridge.waitUntilAllAreReady()
                    first.faults.arm(.deadWorker(.start), times: 1)
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for seed in 1...4 { group.addTask { try await bridge.run(Graph.delay(milliseconds: 200, seed: seed)).status } }
                        for try await status in group { #expect(status == 200) }
                    }
                    #expect(second.statistics.promptsRun.count == 4)
                    let states = try await bridge.get("/readyz")
                    #expect(states.status == 200)
                    #expect(try states.json["comfyui"]?.array?.map { $0["in_rotation"] == true } == [false, true])
                }
            }
        }
    }

    private static let strange = ["--upstream-silence", "0.1", "--upstream-stall", "1"]

    /// Somebody else's prompt, with an id of its own, that is never over by itself.
    private func occupy(_ simulator: ComfySimulator, at upstream: String, _ bridge: RunningBridge, _ graph: JSON = Graph.delay(milliseconds: 600_000, seed: 9)) async throws -> String {
        let body: JSON = ["prompt": graph, "client_id": "stranger"]
        let id = try #require(try await bridge.send(.POST, "\(upstream)/prompt", body: body.encoded()).json["prompt_id"]?.string)
        try await simulator.until("the stranger's prompt runs") { $0.promptsRun[id] != nil }
        return id
    }

    @Test("A ComfyUI that hangs in somebody else's prompt is out of rotation until that has gone", arguments: [false, true])
    func behindAStranger(isDead: Bool) async throws {
        try await withFaults([], Self.strange + ["--upstream-grace", "60"]) { bridge, simulator in
            if isDead { simulator.faults.arm(.deadWorker(.node), times: 1) }
            let upstream = try await bridge.upstream()
            let stranger = try await occupy(simulator, at: upstream, bridge)
            let id = try await bridge.submit(graph())
            // First it is merely busy, and with what is said.
            var why: JSON = .null
            // The bridge learns of it by asking for ComfyUI's queue, which it does again and again.
            try await simulator.until("it is said what the job is behind") { _ in
                why = try await bridge.get("/api/v2/jobs/\(id)/why").json
                return why["details"]?["behind"] != nil || why["reason"] == "comfyui_unreachable"
            }
            #expect(why["message"]?.string?.contains(stranger) == true)
            try await bridge.untilOutOfRotation()
            let state = try await bridge.get("/readyz")
            #expect(state.status == 503)
            #expect(try state.json["comfyui"]?[0]?["connected"] == true)
            #expect(try state.json["comfyui"]?[0]?["reason"]?.string?.contains(stranger) == true)
            let later = try await bridge.submit(graph(2))
            why = try await bridge.get("/api/v2/jobs/\(later)/why").json
            #expect(why["reason"] == "comfyui_unreachable" && why["message"]?.string?.contains(stranger) == true)
            // It is not touched, and nothing of ours is left behind it.
            let queue = try await bridge.get("\(upstream)/queue").json
            #expect(queue["queue_running"]?[0]?[1]?.string == stranger)
            try await simulator.until("nothing of ours is left") { $0.prompts.allSatisfy { $0.key == stranger || $0.value.accepted == $0.value.removed } }
            if isDead {
                try await simulator.perform(.restart(after: .zero, keepsFiles: true))
            } else {
                _ = try await bridge.send(.POST, "\(upstream)/interrupt")
            }
            for id in [id, later] { #expect(try await bridge.events(of: id).last?.json["status"] == "succeeded") }
            #expect(try await bridge.get("/readyz").json["comfyui"]?[0]?["in_rotation"] == true)
            #expect(simulator.statistics.promptsRun == [stranger: 1, id: 1, later: 1])
        }
    }

    @Test func whoBlocksBehindAStrangerIsToldSoAfterTheGrace() async throws {
        try await withFaults([], Self.strange + ["--upstream-grace", "0.1"]) { bridge, simulator in
            let upstream = try await bridge.upstream()
            let stranger = try await occupy(simulator, at: upstream, bridge)
            let answer = try await bridge.run(graph())
            #expect(answer.status == 502)
            #expect(answer.errorCode == "upstream_stuck")
            #expect(try answer.json["error"]?["message"]?.string?.contains(stranger) == true)
            #expect(simulator.statistics.promptsRun == [stranger: 1])
        }
    }

    @Test func jobsBehindAStrangerAreRunOnAnotherComfyUI() async throws {
        try await withSimulator { first, firstPort in
            try await withSimulator { second, secondPort in
                try await withBridge([firstPort, secondPort], Self.strange) { bridge in
                    try await bridge.waitUntilAllAreReady()
                    _ = try await occupy(first, at: "http://127.0.0.1:\(firstPort)", bridge)
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for seed in 1...4 { group.addTask { try await bridge.run(Graph.delay(milliseconds: 200, seed: seed)).status } }
                        for try await status in group { #expect(status == 200) }
                    }
                    #expect(second.statistics.promptsRun.count == 4 && first.statistics.promptsRun.count == 1)
                }
            }
        }
    }

    @Test func aRunThatDoesNotMoveIsInterruptedAndRunAgain() async throws {
        try await withBridge(["--upstream-silence", "1", "--upstream-stall", "1", "--retries", "0"]) { bridge, simulator in
            // The worker thread lives: the node is merely silent for too long.
            let answer = try await bridge.run(Graph.delay(milliseconds: 600_000))
            #expect(answer.status == 502)
            #expect(answer.errorCode == "upstream_stuck")
            #expect(try await bridge.get("/readyz").json["comfyui"]?[0]?["in_rotation"] == true)
            #expect(try await bridge.run(graph()).status == 200)
            #expect(simulator.statistics.promptsRun.allSatisfy { $0.value == 1 })
        }
    }

    @Test func aJobInADeadWorkerCanBeCanceled() async throws {
        try await withFaults([(.deadWorker(.start), 1)], ["--upstream-silence", "0.2", "--upstream-stall", "1"]) { bridge, simulator in
            let job = try await bridge.submit(graph())
            try await simulator.firstRun()
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(job)/cancel")
            #expect(try await bridge.events(of: job).last?.json["status"] == "canceled")
        }
    }

    @Test func outOfMemoryIsLoggedInWords() async throws {
        let log = InMemoryLogHandler()
        try await withBridge(Self.quick, logger: Logger(label: "test") { _ in log }) { bridge, simulator in
            simulator.faults.arm(.outOfMemory(.step(2)), times: 1)
            #expect(try await bridge.run(graph()).status == 200)
            let ends = log.entries.compactMap { entry in entry.metadata["end"].map { (entry.level, "\($0)") } }
            #expect(ends.count == 1)
            let (level, words) = try #require(ends.first)
            #expect(level == .warning)
            #expect(words.hasPrefix("out_of_memory: KSampler (node '3') failed: torch.OutOfMemoryError: "), "\(words)")
            // As Swift shows a value: JobError(code: Jobs.JobError.Code.outOfMemory, …
            for dump in ["JobError", "AttemptEnd", "Jobs.", "code:", "Optional("] { #expect(!words.contains(dump), "\(words)") }
        }
    }

    // MARK: Several ComfyUIs with different nodes

    @Test func jobsGoWhereTheirNodesAre() async throws {
        let cropped: @Sendable (Int) -> JSON = { seed in
            [
                "1": ["class_type": "EmptyImage", "inputs": ["width": 32, "height": 32, "batch_size": 1, "color": JSON(seed)]],
                "2": ["class_type": "ImageCropV2", "inputs": ["image": ["1", 0], "crop_region": ["x": 0, "y": 0, "width": 8, "height": 8]]],
                "3": ["class_type": "SaveImage", "inputs": ["images": ["2", 0], "filename_prefix": "c"]],
            ]
        }
        try await withSimulator({ $0.compatibility = .v0_3_64 }) { old, oldPort in
            try await withSimulator { new, newPort in
                try await withBridge([oldPort, newPort]) { bridge in
                    try await bridge.waitUntilAllAreReady()
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for seed in 1...6 { group.addTask { try await bridge.run(cropped(seed)).status } }
                        for seed in 1...3 { group.addTask { try await bridge.run(Graph.delay(milliseconds: 50, seed: seed)).status } }
                        for try await status in group { #expect(status == 200) }
                    }
                    #expect(old.statistics.promptsAccepted <= 3)
                    #expect(new.statistics.promptsAccepted >= 6)
                }
            }
        }
    }
}

extension RunningBridge {
    /// The address of the only ComfyUI.
    func upstream() async throws -> String { try await get("/readyz").json["comfyui"]?[0]?["url"]?.string ?? "none" }

    /// Until each ComfyUI is connected and its nodes are known.
    func waitUntilAllAreReady() async throws {
        try await until("every ComfyUI is ready") {
            try await $0.get("/readyz").json["comfyui"]?.array?.allSatisfy { $0["connected"] == true && $0["version"]?.string != nil } == true
        }
    }
}
