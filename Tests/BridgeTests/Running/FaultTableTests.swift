import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Synchronization
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

/// Each fault in each phase of a job's life: what the caller is told, and how often the job ran.
///
/// With `COMFY_BRIDGE_FAULT_TABLE` the outcomes are written to that file, as a table in Markdown.
@Suite(.timeLimit(.minutes(5))) struct FaultTableTests {
    enum Phase: String, Sendable, CaseIterable {
        case queued, submitting, running
        case ending = "between last step and end"
        case fetching = "fetching outputs"

        /// For faults that strike at a moment of a prompt.
        var moment: Moment? {
            switch self {
            case .queued: nil  // it is not inside ComfyUI yet: everything happens to what runs before it
            case .submitting: .submit
            case .running: .step(2)
            case .ending: .success
            case .fetching: .end
            }
        }
    }

    enum Trouble: String, Sendable, CaseIterable {
        case cut = "socket cut", mute = "socket open, not registered", halfOpen = "socket half-open"
        case exit = "ComfyUI killed, back after 0.1 s", restart = "restart, everything forgotten"
        case refuse = "connections refused for 0.3 s"
        case error = "500 to the next request", hangUp = "next request hung up", garbage = "garbage to the next request", html = "HTML to the next request"
        case deadWorker = "worker thread dead, restarted by its owner"
    }

    /// What ends the job, and how often ComfyUI ran it: once, but where the first run went down with ComfyUI.
    struct Outcome: Sendable {
        let status: Int
        let code: String?
        let runs: Int
        let excused: Int
        let seconds: Double
        let isWhole: Bool

        var words: String {
            (status == 200 ? (isWhole ? "succeeded" : "succeeded, outputs missing") : "\(status) \(code ?? "")") + (runs == 1 ? "" : ", \(runs) runs")
                + (seconds < 0.95 ? "" : String(format: ", %.0f s", seconds))
        }
    }

    private static let flags = ["--upstream-silence", "0.2", "--upstream-stall", "1", "--retries", "1"]
    private static let marker = "\"seed\":4711"

    @Test func everyFaultInEveryPhase() async throws {
        var rows: [String] = []
        for trouble in Trouble.allCases {
            // The phases side by side, each with a bridge and a ComfyUI of its own.
            let outcomes = try await withThrowingTaskGroup(of: (Phase, Outcome).self) { group in
                for phase in Phase.allCases { group.addTask { (phase, try await self.outcome(of: trouble, in: phase)) } }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for phase in Phase.allCases {
                let outcome = try #require(outcomes[phase])
                let comment: Comment = "\(trouble.rawValue), \(phase.rawValue): \(outcome.words)"
                #expect(outcome.runs <= 1 + outcome.excused, comment)
                // The one thing that is not mended by running the job again: it hung in a dead worker.
                let isHopeless = trouble == .deadWorker && outcome.code == "upstream_stuck"
                // A 500 may be ComfyUI's answer to the workflow itself.
                let isRefusal = trouble == .error && phase == .submitting && outcome.code == "upstream_error"
                #expect((outcome.status == 200 && outcome.isWhole) || isHopeless || isRefusal, comment)
            }
            rows.append("| \(trouble.rawValue) | " + Phase.allCases.map { outcomes[$0]?.words ?? "" }.joined(separator: " | ") + " |")
        }
        let head = "| fault | " + Phase.allCases.map(\.rawValue).joined(separator: " | ") + " |\n|---|" + Phase.allCases.map { _ in "---|" }.joined()
        let table = ([head] + rows).joined(separator: "\n") + "\n"
        print(table)
        if let path = ProcessInfo.processInfo.environment["COMFY_BRIDGE_FAULT_TABLE"] { try table.write(toFile: path, atomically: true, encoding: .utf8) }
    }

    private func outcome(of trouble: Trouble, in phase: Phase) async throws -> Outcome {
        var outcome: Outcome?
        try await withSimulator({ $0.restartDelay = .milliseconds(100) }) { simulator, port in
            try await withBridge([port], Self.flags) { bridge in
                // The second place inside ComfyUI is taken too, so that the job waits in the bridge.
                var blockers: [String] = []
                if phase == .queued {
                    for seed in 1...2 { blockers.append(try await bridge.submit(Graph.delay(milliseconds: 400, seed: seed))) }
                    try await simulator.firstRun()
                }
                arm(trouble, phase, simulator)
                let begin = ContinuousClock.now
                async let answer = bridge.run(Graph.sampler(steps: 3, seed: "4711"), query: "?outputs=base64")
                try await happen(trouble, phase, simulator, bridge)
                let result = try await answer
                let seconds = (ContinuousClock.now - begin) / .seconds(1)
                let json = try result.json
                let id = try #require(json["id"]?.string ?? json["error"]?["details"]?["job_id"]?.string)
                let outputs = json["outputs"]?.array ?? []
                let bytes = Data(base64Encoded: outputs.first?["data_base64"]?.string ?? "") ?? Data()
                let counts = simulator.statistics.prompts[id]
                outcome = Outcome(
                    status: result.status, code: result.errorCode, runs: counts?.started ?? 0, excused: (counts?.lost ?? 0) + (counts?.forgotten ?? 0), seconds: seconds,
                    isWhole: outputs.count == 1 && outputs[0]["size_bytes"]?.int == bytes.count && bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]))
            }
        }
        return try #require(outcome)
    }

    /// What strikes by itself when the job comes to the phase.
    private func arm(_ trouble: Trouble, _ phase: Phase, _ simulator: ComfySimulator) {
        let request =
            switch phase {
            case .queued, .running, .ending: "GET /queue"
            case .submitting: "POST /prompt"
            case .fetching: "GET /view"
            }
        func arm(_ fault: Fault, _ only: String? = nil) { simulator.faults.arm(fault, only: only, times: 1) }
        /// An answer matters where somebody asks.
        func answer(_ fault: Fault) {
            arm(fault, request)
            if let moment = phase.moment, phase != .submitting, phase != .fetching { arm(.cut(moment), Self.marker) }
        }
        switch trouble {
        case .cut: if let moment = phase.moment { arm(.cut(moment), Self.marker) }
        case .mute: if let moment = phase.moment { arm(.mute(moment), Self.marker) }
        case .halfOpen: if let moment = phase.moment { arm(.halfOpen(moment), Self.marker) }
        case .exit: if let moment = phase.moment { arm(.exit(moment), Self.marker) }
        case .deadWorker:
            if let moment = phase.moment { arm(.deadWorker(moment == .submit ? .start : moment), Self.marker) }
        case .error: answer(.error(500))
        case .hangUp: answer(.hangUp)
        case .garbage: answer(.garbage)
        case .html: answer(.html(502))
        case .restart, .refuse: if let moment = phase.moment { arm(.cut(moment), Self.marker) }
        }
    }

    /// What somebody does when the job has come to the phase.
    private func happen(_ trouble: Trouble, _ phase: Phase, _ simulator: ComfySimulator, _ bridge: RunningBridge) async throws {
        func reached() async throws {
            guard phase != .queued else { return }
            try await simulator.until("a fault has struck") { !$0.faultsFired.isEmpty }
        }
        switch trouble {
        case .cut where phase == .queued: try await simulator.perform(.cut)
        case .mute where phase == .queued: try await simulator.perform(.mute)
        case .halfOpen where phase == .queued: try await simulator.perform(.halfOpen)
        case .exit where phase == .queued: try await simulator.perform(.exit)
        case .deadWorker:
            if phase == .queued { try await simulator.perform(.deadWorker) }
            // Its owner sees what the bridge says, and restarts it. Behind the end of the last job nobody can notice.
            try await reached()
            try await bridge.until("it is out of rotation, or the job over") {
                guard try await $0.get("/readyz").json["comfyui"]?[0]?["in_rotation"] == true else { return true }
                return try await $0.get("/api/v2/jobs?status=queued,running").json["jobs"]?.array?.isEmpty == true
            }
            try await simulator.perform(.restart(after: .milliseconds(50), keepsFiles: true))
        case .restart:
            try await reached()
            try await simulator.perform(.restart(after: .milliseconds(100), keepsFiles: true))
        case .refuse:
            try await reached()
            try await simulator.perform(.refuse(.milliseconds(300)))
        case .cut, .mute, .halfOpen, .exit, .error, .hangUp, .garbage, .html: break
        }
    }
}
