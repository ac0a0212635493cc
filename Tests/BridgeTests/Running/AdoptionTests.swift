import AsyncHTTPClient
import ComfyUI
import Logging
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers
@testable import Workflow

/// Jobs that ComfyUI has, or had, from before this worker: of a bridge that has ended since, or from before ComfyUI was away for long.
@Suite(.timeLimit(.minutes(5))) struct AdoptionTests {
    private static let clientID = "6b0e7a52-7f0c-4c58-9d3a-2f8f2f1f0a01"

    /// A worker alone, without an API, and what it works with.
    struct Lone: Sendable {
        let worker: Worker
        let service: JobService
        let client: ComfyUIClient

        func job(_ graph: JSON, timeout: Duration? = nil) throws -> Job {
            var options = Submission.Options()
            options.timeout = timeout
            return Job(submission: Submission(workflow: try Workflow(checking: graph), outputNodes: [], options: options))
        }

        /// As a bridge does that ends right after it.
        func submit(_ job: Job) async throws {
            let prompt = PromptSubmission(promptID: job.id.description, clientID: AdoptionTests.clientID, encodedGraph: job.submission.workflow.text)
            _ = try await client.submit(prompt)
        }
    }

    private func withWorker(
        _ port: Int, _ change: (inout Worker.Configuration) -> Void = { _ in }, before: (Lone) async throws -> Void = { _ in },
        _ body: (Lone) async throws -> Void
    ) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var configuration = Worker.Configuration(endpoint: try ComfyEndpoint("http://127.0.0.1:\(port)"))
        configuration.silence = .milliseconds(200)
        change(&configuration)
        let blobs = try FileBlobStore(directory: nil, logger: logger)
        defer { blobs.removeTemporaryDirectory() }
        let assets = AssetService(store: MemoryAssetStore(), blobs: blobs, comfyFiles: NoComfyFiles(), retention: nil, inUse: { [] }, logger: logger)
        let metrics = Metrics()
        let service = JobService(configuration: .init(), store: MemoryJobs(), assets: assets, previewFiles: nil, metrics: metrics, logger: logger)
        let client = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: ComfyUIClient.httpClientConfiguration())
        let worker = Worker(
            configuration: configuration, clientID: Self.clientID, service: service, metrics: metrics, previewFiles: nil,
            clients: ClientDirectory(endpoints: [configuration.endpoint], httpClient: client, logger: logger), eventLoopGroup: HTTPClient.defaultEventLoopGroup, logger: logger)
        let lone = Lone(worker: worker, service: service, client: ComfyUIClient(endpoint: configuration.endpoint, httpClient: client, logger: logger))
        do {
            try await before(lone)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await worker.run() }
                try await body(lone)
                group.cancelAll()
            }
        } catch {
            try await client.shutdown()
            throw error
        }
        try await client.shutdown()
    }

    private func messages(of job: Job) -> [String] {
        (job.events(after: 0, limit: 1000) ?? []).compactMap { if case .log(let entry) = $0.event { entry.message } else { nil } }
    }

    /// Once the job is known to run there, nothing can be reached any more, for as long as the fault is armed; ComfyUI itself goes on.
    private func goAway(_ simulator: ComfySimulator, with job: Job) async throws {
        await job.wait { $0 == .running }
        simulator.faults.arm(.hangUp, only: "GET /")
        try await simulator.perform(.cut)
    }

    enum State: Sendable, CaseIterable { case waiting, running, finished, failed, interrupted, absent, absentAfterAStart }

    @Test("However ComfyUI stands with it, it ends as it should, and runs once", arguments: State.allCases)
    func adopts(_ state: State) async throws {
        try await withSimulator { simulator, port in
            func isOver(_ job: Job) async throws { try await simulator.until("the prompt is over") { $0.prompts[job.id.description]?.finished == 1 } }
            // What comes before the first node has begun is lost.
            func interrupt(_ job: Job, _ lone: Lone) async throws {
                try await simulator.until("a node has begun") { $0.nodesBegun > 0 }
                try await lone.client.interrupt(promptID: job.id.description)
                try await isOver(job)
            }
            var job: Job?
            var blocker: Job?
            try await withWorker(
                port,
                before: { lone in
                    let adopted = try lone.job(state == .failed ? Graph.fails("no luck") : Graph.delay(milliseconds: state == .interrupted ? 600_000 : 300))
                    job = adopted
                    if state == .absentAfterAStart { adopted.started() }
                    switch state {
                    case .waiting:
                        let first = try lone.job(Graph.delay(milliseconds: 600_000, seed: 7))
                        blocker = first
                        try await lone.submit(first)
                        try await lone.submit(adopted)
                    case .running:
                        try await lone.submit(adopted)
                        try await simulator.firstRun()
                    case .finished, .failed:
                        try await lone.submit(adopted)
                        try await isOver(adopted)
                    case .interrupted:
                        try await lone.submit(adopted)
                        try await interrupt(adopted, lone)
                    case .absent, .absentAfterAStart: break
                    }
                    lone.worker.adopt(adopted)
                    #expect(lone.worker.status.open.count == 1)
                }
            ) { lone in
                let job = try #require(job)
                if let blocker { try await interrupt(blocker, lone) }
                await job.wait { _ in false }
                let snapshot = job.snapshot
                switch state {
                case .waiting, .running, .finished, .absent, .absentAfterAStart:
                    #expect(snapshot.status == .succeeded)
                    #expect(snapshot.outputs.count == 1)
                case .failed:
                    #expect(snapshot.status == .failed)
                    #expect(snapshot.error?.code == .nodeExecutionError)
                case .interrupted: #expect(snapshot.status == .canceled)
                }
                #expect(simulator.statistics.promptsRun[job.id.description] == 1)
                #expect(job.attempts.lost == (state == .absentAfterAStart ? 1 : 0))
            }
        }
    }

    @Test func aJobThatWasBeingCanceledIsTakenBack() async throws {
        try await withSimulator { simulator, port in
            var job: Job?
            try await withWorker(
                port,
                before: { lone in
                    let adopted = try lone.job(Graph.delay(milliseconds: 600_000))
                    job = adopted
                    try await lone.submit(adopted)
                    adopted.requestCancel()
                    lone.worker.adopt(adopted)
                }
            ) { lone in
                await job?.wait { _ in false }
                #expect(job?.status == .canceled)
                let queue = try await lone.client.queue()
                #expect(queue.running.isEmpty)
            }
        }
    }

    @Test func itsTimeLimitCountsFromItsStart() async throws {
        try await withSimulator { simulator, port in
            var job: Job?
            try await withWorker(
                port,
                before: { lone in
                    let adopted = try lone.job(Graph.delay(milliseconds: 600_000), timeout: .milliseconds(1))
                    job = adopted
                    try await lone.submit(adopted)
                    adopted.started()
                    lone.worker.adopt(adopted)
                }
            ) { _ in
                await job?.wait { _ in false }
                #expect(job?.snapshot.error?.code == .timedOut)
            }
        }
    }

    @Test func adoptedJobsTakeUpSlots() async throws {
        try await withSimulator { simulator, port in
            var adopted: [Job] = []
            try await withWorker(
                port,
                before: { lone in
                    for seed in 1...2 {
                        let job = try lone.job(Graph.delay(milliseconds: 600_000, seed: seed))
                        adopted.append(job)
                        try await lone.submit(job)
                        lone.worker.adopt(job)
                    }
                }
            ) { lone in
                let next = try await lone.service.submit(try lone.job(Graph.picture()).submission)
                await adopted[0].wait { $0 == .running }
                #expect(lone.service.queue.count == 1)
                for job in adopted { await lone.service.cancel(job) }
                await next.wait { _ in false }
                #expect(next.status == .succeeded)
                #expect(simulator.statistics.promptsAccepted == 3)
            }
        }
    }

    @Test("ComfyUI goes on while it cannot be reached; a job that nobody blocks for waits for it, and is not run twice", arguments: [JobStatus.succeeded, .failed])
    func waitedFor(_ end: JobStatus) async throws {
        try await withSimulator { simulator, port in
            try await withWorker(
                port,
                {
                    $0.grace = .milliseconds(100); $0.silence = .milliseconds(50)
                }
            ) { lone in
                let graph = Graph.delay(milliseconds: 1500, failure: end == .failed ? "no luck" : nil)
                let job = try await lone.service.submit(try lone.job(graph).submission)
                try await goAway(simulator, with: job)
                try await simulator.until("it is over there") { $0.prompts[job.id.description]?.finished == 1 }
                // Several times the grace, in which the job is not given up.
                try await Task.sleep(for: .milliseconds(500))
                #expect(job.status == .running)
                simulator.faults.clear()
                await job.wait { _ in false }
                #expect(job.status == end)
                #expect(job.attempts.lost == 0)
                #expect(simulator.statistics.promptsRun[job.id.description] == 1)
                // Of its loss, and of its return unless the job's end is known before.
                #expect(messages(of: job).first?.contains("cannot be reached") == true)
            }
        }
    }

    enum Blocked: Sendable, CaseIterable { case running, waiting, adopted, adoptedAndAway }

    @Test("A job that somebody blocks for ends when ComfyUI has been away for the grace, wherever it is, and is taken out there later", arguments: Blocked.allCases)
    func blocked(_ place: Blocked) async throws {
        try await withSimulator { simulator, port in
            var adopted: Job?
            try await withWorker(
                port,
                {
                    $0.grace = .milliseconds(100); $0.silence = .seconds(600); $0.retries = 0
                },
                before: { lone in
                    guard place == .adopted || place == .adoptedAndAway else { return }
                    let job = try lone.job(Graph.delay(milliseconds: 600_000))
                    adopted = job
                    try await lone.submit(job)
                    try await simulator.until("it runs") { $0.promptsRun[job.id.description] != nil }
                    if place == .adoptedAndAway { simulator.faults.arm(.hangUp, only: "GET /") }
                    lone.worker.adopt(job)
                }
            ) { lone in
                let blocks = Job.Interest.blocks(endsJob: true)
                let running: Job =
                    if let adopted { adopted } else {
                        try await lone.service.submit(try lone.job(Graph.delay(milliseconds: 600_000)).submission, place == .waiting ? .isPromised : blocks)
                    }
                if let adopted { adopted.attach(blocks) }
                var job = running
                if place == .waiting {
                    await running.wait { $0 == .running }
                    job = try await lone.service.submit(try lone.job(Graph.picture()).submission, blocks)
                    try await simulator.accepted(2)
                }
                if place != .adoptedAndAway { try await goAway(simulator, with: running) }
                await job.wait { _ in false }
                #expect(job.snapshot.error?.code == .upstreamUnreachable)
                simulator.faults.clear()
                // Nobody waits for it: it is taken out there. What nobody blocks for goes on.
                if job !== running { _ = await lone.service.cancel(running) }
                try await simulator.until("nothing is left inside ComfyUI", \.isIdle)
                #expect(job.attempts.kills == 0)
            }
        }
    }

    /// The bridge believes that it was not delivered.
    @Test("What ComfyUI has of a job is looked at before it is submitted again", arguments: [JobStatus.succeeded, .failed])
    func foundBeforeTheSubmit(_ end: JobStatus) async throws {
        try await withSimulator { simulator, port in
            try await withWorker(port) { lone in
                let job = try lone.job(end == .failed ? Graph.fails("no") : Graph.picture())
                try await lone.submit(job)
                try await simulator.until("it is over") { $0.prompts[job.id.description]?.finished == 1 }
                _ = job.endAttempt { $0.undelivered += 1 }
                await lone.service.putBack(job)
                await job.wait { _ in false }
                #expect(job.status == end)
                #expect(simulator.statistics.promptsRun[job.id.description] == 1)
            }
        }
    }

    @Test func aJobThatEndedElsewhereIsTakenOutWhenComfyUIIsBack() async throws {
        try await withSimulator { simulator, port in
            try await withWorker(
                port,
                {
                    $0.grace = .milliseconds(100); $0.silence = .milliseconds(50)
                }
            ) { lone in
                let job = try await lone.service.submit(try lone.job(Graph.delay(milliseconds: 600_000)).submission)
                try await goAway(simulator, with: job)
                await lone.service.cancel(job)
                await job.wait { _ in false }
                #expect(job.status == .canceled)
                simulator.faults.clear()
                // Without being taken out it would run for ten minutes.
                try await simulator.until("nothing is left inside ComfyUI", \.isIdle)
                #expect(simulator.statistics.promptsRun[job.id.description] == 1)
            }
        }
    }
}
