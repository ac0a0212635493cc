import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Synchronization
import Testing

@testable import API
@testable import Jobs
@testable import Store
@testable import Workers

/// Everything that can go wrong between the bridge and two ComfyUIs, at random, under many callers and viewers: nothing may be lost.
///
/// The seed is `COMFY_BRIDGE_CHAOS_SEED`, if that is set. It fixes the jobs and the faults, not the order in which threads come to them.
@Suite(.timeLimit(.minutes(15))) struct ChaosTests {
    private static let jobCount = 320
    /// How many jobs are asked for at the same time.
    private static let callers = 16

    @Test func everyJobIsAccountedFor() async throws {
        let seed = ProcessInfo.processInfo.environment["COMFY_BRIDGE_CHAOS_SEED"].flatMap { UInt64($0) } ?? 20_260_728
        let plan = ChaosPlan(seed: seed, jobs: Self.jobCount)
        print("chaos: seed \(seed), \(plan.jobs.count) jobs")
        let expected = try await calmOutputs(of: plan)
        let begin = ContinuousClock.now
        try await withSimulator(configure(0, seed)) { first, firstPort in
            try await withSimulator(configure(1, seed)) { second, secondPort in
                let simulators = [first, second]
                try await withBridge([firstPort, secondPort], ["--upstream-silence", "0.3", "--retries", "3", "--log-level", "error"]) { bridge in
                    try await bridge.waitUntilAllAreReady()
                    arm(simulators, plan)
                    let chaos = Chaos(plan: plan, bridge: bridge, simulators: simulators)
                    let records = try await chaos.run(callers: Self.callers)
                    let time = ContinuousClock.now - begin
                    print(summary(records, simulators, time))
                    for simulator in simulators { simulator.faults.clear() }
                    for record in records { try await check(record, expected[record.job.number] ?? [], bridge, simulators) }
                    #expect(records.count == plan.jobs.count)
                    // What went wrong was not nothing.
                    #expect(simulators.reduce(0) { $0 + $1.statistics.faultsFired.values.reduce(0, +) } > 100)
                }
            }
        }
    }

    private func configure(_ index: UInt64, _ seed: UInt64) -> (inout ComfySimulator.Configuration) -> Void {
        {
            $0.restartDelay = .milliseconds(100)
            $0.faultSeed = seed &+ index
        }
    }

    private func arm(_ simulators: [ComfySimulator], _ plan: ChaosPlan) {
        for (simulator, orders) in zip(simulators, plan.orders) {
            for order in orders { simulator.faults.arm(order) }
        }
        for job in plan.jobs {
            guard let order = job.order else { continue }
            for index in job.simulators { simulators[index].faults.arm(order) }
        }
    }

    /// What each graph gives when nothing goes wrong, by the number of the job.
    private func calmOutputs(of plan: ChaosPlan) async throws -> [Int: [[UInt8]]] {
        var outputs: [Int: [[UInt8]]] = [:]
        try await withBridge { bridge, _ in
            for job in plan.jobs where job.kind != .failing {
                outputs[job.number] = try await pictures(in: bridge.run(job.graph, query: "?outputs=base64").json)
            }
        }
        return outputs
    }

    // MARK: Checks

    private func check(_ record: Chaos.Record, _ expected: [[UInt8]], _ bridge: RunningBridge, _ simulators: [ComfySimulator]) async throws {
        let job = record.job
        let comment: Comment = "job \(job.number) \(record.id) (\(job.kind), \(job.caller), \(job.order.map { "\($0.fault) x\($0.times ?? 0) on \(job.simulators)" } ?? "no fault")): \(record.state.text)"
        let status = record.state["status"]?.string ?? ""
        #expect(["succeeded", "failed", "canceled"].contains(status), comment)
        #expect(status != "canceled" || job.isCanceled, comment)
        #expect(status != "succeeded" || job.kind != .failing, comment)
        if status != "succeeded" {
            #expect(record.state["error"]?["code"]?.string?.isEmpty == false, comment)
            #expect(record.state["error"]?["message"]?.string?.isEmpty == false, comment)
        }
        if job.kind != .failing { #expect(record.state["error"]?["code"]?.string != "node_execution_error", comment) }

        // Viewers: all events from the first to the end of the job, each once, the same for everybody.
        for events in record.viewers {
            #expect(events.compactMap(\.id) == Array(1...max(1, events.count)), comment)
            #expect(events.last?.isTerminal == true, comment)
            #expect(events.last?.json["status"]?.string == status, comment)
            #expect(events == record.viewers.first, comment)
        }
        #expect(record.late.isEmpty || record.late.last?.isTerminal == true, comment)
        let lateIDs = record.late.compactMap(\.id)
        #expect(zip(lateIDs, lateIDs.dropFirst()).allSatisfy { $0 + 1 == $1 }, comment)
        #expect(!record.viewers.isEmpty, comment)

        // The caller.
        if let answer = record.answer {
            // Who wants the bytes too may be told that they could not be had.
            let isAboutBytes = if case .run(base64: true) = job.caller { answer.errorCode?.hasPrefix("upstream_") == true } else { false }
            #expect((answer.status == 200) == (status == "succeeded") || isAboutBytes, "\(answer.status) \(String(decoding: answer.body.prefix(500), as: UTF8.self)) for \(comment)")
            if answer.status != 200 { #expect(answer.errorCode != nil, comment) }
        }

        // Outputs.
        if status == "succeeded" {
            let outputs = record.state["outputs"]?.array ?? []
            if !outputs.isEmpty || !job.mayLackOutputs {
                #expect(outputs.count == expected.count, comment)
                for (output, picture) in zip(outputs, expected) {
                    let answer = try await bridge.get(output["url"]?.string ?? "")
                    #expect(answer.status == 200 && answer.body == picture, "\(answer.status), \(answer.body.count) of \(picture.count) bytes of \(output.text) for \(comment)")
                    #expect(output["size_bytes"]?.int == nil || output["size_bytes"]?.int == picture.count, comment)
                }
            }
            if let answer = record.answer, case .run(base64: true) = job.caller, answer.status == 200 {
                let pictures = try pictures(in: answer.json)
                #expect(pictures == expected || job.mayLackOutputs, comment)
            }
        }

        // How often it ran.
        let counts = record.counts
        let excuses = counts.lost + counts.forgotten + job.repeatedFailures + (job.kind == .websocket ? 3 : 0)
        #expect(counts.started <= 1 + excuses, "\(counts) for \(comment), events \(record.viewers.first?.map(\.data) ?? [])")
        #expect(Chaos.counts(of: record.id, simulators).started == counts.started, "ran after its end: \(comment)")
    }

    private func pictures(in job: JSON) throws -> [[UInt8]] {
        try (job["outputs"]?.array ?? []).map { output in
            Array(try #require(Data(base64Encoded: output["data_base64"]?.string ?? "-"), "\(output.text)"))
        }
    }

    private func summary(_ records: [Chaos.Record], _ simulators: [ComfySimulator], _ time: Duration) -> String {
        let outcomes = records.map { record in
            let status = record.state["status"]?.string ?? "unknown"
            return status == "failed" ? "failed: \(record.state["error"]?["code"]?.string ?? "without a code")" : status
        }
        let faults = simulators.flatMap { $0.statistics.faultsFired.flatMap { Array(repeating: $0.key.rawValue, count: $0.value) } }
        func table(_ words: [String]) -> String {
            Dictionary(grouping: words) { $0 }.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.count)" }.joined(separator: ", ")
        }
        let viewers = records.reduce(0) { $0 + $1.viewers.count }
        return """
            chaos: \(records.count) jobs in \(time): \(table(outcomes))
            chaos: \(faults.count) faults struck: \(table(faults))
            chaos: \(viewers) viewers, \(records.reduce(0) { $0 + $1.reconnects }) returns of them; \(records.reduce(0) { $0 + $1.counts.started }) runs for \(records.count) jobs
            """
    }
}

/// The callers and viewers of the chaos test at work.
private final class Chaos: Sendable {
    struct Record: Sendable {
        let job: ChaosPlan.Job
        let id: String
        /// What the blocked caller got.
        var answer: RunningBridge.Answer?
        /// Of each viewer that wanted everything, the events with ids.
        var viewers: [[RunningBridge.Event]] = []
        /// The events with ids of one that began with the present state.
        var late: [RunningBridge.Event] = []
        var reconnects = 0
        /// The job, and the simulators' counts of it, when it was over.
        var state = JSON.null
        var counts = Counts()
    }

    /// Of one job, over all simulators.
    struct Counts: Sendable {
        var started = 0
        var lost = 0
        var forgotten = 0
    }

    private let plan: ChaosPlan
    private let bridge: RunningBridge
    private let simulators: [ComfySimulator]
    private let next = Atomic(0)
    private let ended = Atomic(0)

    init(plan: ChaosPlan, bridge: RunningBridge, simulators: [ComfySimulator]) {
        self.plan = plan
        self.bridge = bridge
        self.simulators = simulators
    }

    func run(callers: Int) async throws -> [Record] {
        try await withThrowingTaskGroup(of: [Record].self) { group in
            for _ in 0..<callers {
                group.addTask {
                    var records: [Record] = []
                    while let job = self.take() {
                        do { records.append(try await self.runInTime(job)) } catch {
                            Issue.record("job \(job.number) (\(job.kind), \(job.caller), \(job.order.map { "\($0)" } ?? "no fault")): \(error)")
                        }
                        try await self.jobEnded()
                    }
                    return records
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
    }

    static func counts(of id: String, _ simulators: [ComfySimulator]) -> Counts {
        simulators.compactMap { $0.statistics.prompts[id] }.reduce(into: Counts()) { sum, counts in
            sum.started += counts.started
            sum.lost += counts.lost
            sum.forgotten += counts.forgotten
        }
    }

    private func take() -> ChaosPlan.Job? {
        let index = next.add(1, ordering: .relaxed).oldValue
        return index < plan.jobs.count ? plan.jobs[index] : nil
    }

    private func jobEnded() async throws {
        guard let (simulator, action) = plan.actions[ended.add(1, ordering: .relaxed).newValue] else { return }
        try await simulators[simulator].perform(action)
    }

    private struct TookTooLong: Error {
        /// What the bridge, and each ComfyUI, says of what is open.
        let jobs: String
        let queues: [String]
    }

    /// Nothing that the plan does to a job takes nearly as long.
    private static let limit = Duration.seconds(240)

    private func runInTime(_ job: ChaosPlan.Job) async throws -> Record {
        try await withThrowingTaskGroup(of: Record?.self) { group in
            group.addTask { try await self.run(job) }
            group.addTask {
                try await Task.sleep(for: Self.limit)
                return nil
            }
            defer { group.cancelAll() }
            if let record = try await group.next() ?? nil { return record }
            let open = try await self.bridge.get("/api/v2/jobs?status=queued,running,canceling")
            var queues: [String] = []
            for state in try await self.bridge.get("/readyz").json["comfyui"]?.array ?? [] {
                let queue = try? await self.bridge.get("\(state["url"]?.string ?? "")/queue")
                queues.append("\(state.text) \(String(decoding: queue?.body ?? [], as: UTF8.self).prefix(1000))")
            }
            throw TookTooLong(jobs: String(decoding: open.body, as: UTF8.self), queues: queues)
        }
    }

    private func run(_ job: ChaosPlan.Job) async throws -> Record {
        let seed = plan.seed &+ UInt64(job.number) &* 3
        var record: Record
        switch job.caller {
        case .run(let base64):
            let answer = try await bridge.run(job.graph, query: base64 ? "?outputs=base64" : "")
            let json = try answer.json
            let id = try #require(json["id"]?.string ?? json["error"]?["details"]?["job_id"]?.string, "\(json.text)")
            record = Record(job: job, id: id, answer: answer)
        case .stream:
            let response = try await bridge.open(.POST, "/run?previews=url", [("Accept", "text/event-stream")], body: job.graph.encoded())
            let events = try await bridge.events(response)
            let id = try #require(events.first { $0.name == "job" }?.json["id"]?.string)
            record = Record(job: job, id: id)
            record.viewers.append(events.filter { $0.id != nil })
        case .submit(let cancelAfter):
            record = Record(job: job, id: try await bridge.submit(job.graph))
            let id = record.id
            async let constant = watch(id, patience: nil, seed: seed)
            async let restless = watch(id, patience: 1...5, seed: seed &+ 1)
            async let restive = watch(id, patience: 2...12, seed: seed &+ 2)
            async let late = bridge.events(of: id, query: "?previews=url")
            if let cancelAfter {
                var left = cancelAfter
                if left > 0 {
                    try await bridge.events(of: id, query: "?previews=url") { _ in
                        left -= 1
                        return left == 0
                    }
                }
                let answer = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel")
                #expect(answer.status == 200)
            }
            for (events, reconnects) in try await [constant, restless, restive] {
                record.viewers.append(events)
                record.reconnects += reconnects
            }
            record.late = try await late.filter { $0.id != nil }
        }
        record.counts = Self.counts(of: record.id, simulators)
        record.state = try await bridge.job(record.id)
        record.viewers.append(try await watch(record.id, patience: nil, seed: seed).events)  // all of it, afterwards
        return record
    }

    /// Follows a job from its first event to its end, and sees the events with an id.
    ///
    /// - Parameter patience: the viewer leaves after so many events, and comes back.
    private func watch(
        _ id: String, patience: ClosedRange<Int>?, seed: UInt64
    ) async throws -> (events: [RunningBridge.Event], reconnects: Int) {
        var random = SeededGenerator(seed: seed)
        var seen: [RunningBridge.Event] = []
        var connections = 0
        var fruitless = 0
        while seen.last?.isTerminal != true {
            connections += 1
            let response = try await bridge.open(
                .GET, "/api/v2/jobs/\(id)/events?previews=url", [("Last-Event-ID", "\(seen.last?.id ?? 0)")], body: nil)
            try #require(response.status == .ok)
            // What has no id comes again: who leaves before it has seen an id would not get on.
            var left = patience.map { Int.random(in: $0, using: &random) + fruitless } ?? .max
            let news = try await bridge.events(response) { _ in
                left -= 1
                return left == 0
            }.filter { $0.id != nil }
            seen += news
            fruitless = news.isEmpty ? fruitless + 1 : 0
        }
        return (seen, connections - 1)
    }
}
