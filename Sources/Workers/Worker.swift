package import ComfyUI
import FoundationEssentials
package import Jobs
package import Logging
package import NIOCore
import OrderedCollections
import OrderedJSON
import ServiceLifecycle
import Synchronization
import Wording
package import Workflow

/// Owns one ComfyUI: keeps its socket, takes jobs from the queue, runs each to its end.
package final class Worker: Service {
    package struct Configuration: Sendable {
        package let endpoint: ComfyEndpoint
        /// How often a job whose run was lost is run again.
        package var retries = 1
        /// From the start of execution, for jobs that name none; nil is unlimited.
        package var jobTimeout: Duration? = nil
        /// Prompts inside ComfyUI at the same time: one runs, one waits, so that ComfyUI is never idle between jobs and order
        /// and cancellation stay the bridge's.
        var slots = 2
        /// Beside them, those that have succeeded and whose results are still looked at and written down.
        var settling = 8
        /// After this time without a message about an open prompt ComfyUI's books are asked.
        package var silence = Duration.seconds(10)
        /// How long a running prompt may be silent before ComfyUI counts as stuck; nil is for ever.
        package var stall: Duration? = .seconds(1800)
        /// How long ComfyUI may be away before a job that somebody blocks for ends, or one that another ComfyUI can run goes there.
        package var grace = Duration.seconds(10)
        /// `extra_data.preview_method`: asks for previews also where ComfyUI was started without.
        package var previewMethod = "auto"
        /// What workflows may do with its files.
        package var fileRules = FileRules()
        package var trust = ComfyTrust.system

        package init(endpoint: ComfyEndpoint) { self.endpoint = endpoint }

        /// How long what proves the socket's registration may take.
        var registrationLimit: Duration { min(max(silence, .seconds(1)), .seconds(5)) }
        /// How long ComfyUI may take to begin a prompt that is its next.
        var startLimit: Duration { min(silence * 6, stall ?? silence * 6) }
        /// How long after ComfyUI's word on how a run went its last message may take, before its books are asked.
        var endLimit: Duration { min(silence, .milliseconds(500)) }
    }

    /// A job inside this ComfyUI.
    package struct OpenPrompt: Sendable {
        package let job: JobID
        /// Since the last message about it.
        package let silence: Duration
    }

    /// All that others may know of a worker, at one moment.
    package struct Status: Sendable {
        /// The address of the ComfyUI, without credentials.
        package let url: String
        package let isConnected: Bool
        /// How long no job can have run: not connected, or stuck. Nil while they can.
        package let unavailableFor: Duration?
        /// Why it is not connected, or not in rotation.
        package let reason: String?
        /// Why it counts as stuck; nil while it does not, or is not connected.
        let standstill: String?
        /// False after a fault that will hit the next job too, until a job has succeeded.
        package let isInRotation: Bool
        /// A job would be given to it, if only to see whether it works again.
        package let takesJobs: Bool
        package let version: String?
        package let hasCatalog: Bool
        package let open: [OpenPrompt]
        /// From which silence about an open prompt on ComfyUI is asked.
        package let silenceLimit: Duration
    }

    package let configuration: Configuration
    let client: ComfyUIClient
    package let service: JobService
    package let metrics: Metrics
    package let previewFiles: (any PreviewFileStore)?
    /// The files that jobs read, inside this ComfyUI.
    let inputFiles: InputFiles
    let inbox: PromptInbox
    package let logger: Logger
    /// ComfyUI sends a prompt's messages only to the socket with the id it was submitted under.
    package let clientID: String

    let socket: EventSocket
    /// Jobs are followed on the socket's event loop.
    private let executor: EventLoopExecutor
    private let signals = Signals()
    let state: Mutex<State>

    struct State {
        /// The job that ComfyUI is being given. The next waits for that: requests side by side arrive in any order, and the queue's is to count.
        var submitting: JobID?
        var rotation: Rotation
        /// Somebody waits for the time at which the rotation may change.
        var isRotationWatched = false
        /// Somebody waits for the time at which ComfyUI has been away for long.
        var isAbsenceWatched = false
        /// Who waits for the end of an attempt to connect.
        var attempts: [AsyncStream<Void>.Continuation] = []
        /// Jobs that ComfyUI has, or had, without this worker's knowledge how it stands with them.
        var adopted: [(job: Job, channel: PromptInbox.Channel)] = []
        /// Jobs that were given up while ComfyUI could not be reached; it may still have them.
        var givenUp: [Job] = []
        var version: String?
        var catalog: NodeCatalog?
    }

    /// - Parameter clientID: kept over reconnects, and over restarts of the bridge if jobs are to be adopted.
    package init(
        configuration: Configuration, clientID: String = JobID.makeUUID(), service: JobService, metrics: Metrics, previewFiles: (any PreviewFileStore)?,
        clients: ClientDirectory, eventLoopGroup: any EventLoopGroup, logger: Logger
    ) {
        var logger = logger
        logger[metadataKey: "comfy.url"] = "\(configuration.endpoint)"
        self.logger = logger
        self.configuration = configuration
        self.clientID = clientID
        self.service = service
        self.metrics = metrics
        self.previewFiles = previewFiles
        client = clients.client(of: configuration.endpoint)
        inputFiles = InputFiles(client: client, clients: clients, logger: logger)
        state = Mutex(State(rotation: Rotation(pause: configuration.silence)))
        let connectionLog = ConnectionLog()
        inbox = PromptInbox(metrics: metrics) { [signals, logger] connection in
            switch connection {
            case .connected:
                metrics.connected(to: configuration.endpoint.description)
                signals.send(.connected)
            case .disconnected: signals.send(.disconnected)
            }
            // A bridge that stops has said so.
            signals.isFinished ? logger.debug("not connected to ComfyUI any more") : connectionLog.note(connection, in: logger)
        }
        var socketConfiguration = EventSocket.Configuration(endpoint: configuration.endpoint, clientID: clientID)
        socketConfiguration.tls = configuration.trust.configuration
        socketConfiguration.isAwaited = { [inbox, queue = service.queue] in inbox.openCount > 0 || queue.count > 0 }
        socket = EventSocket(
            configuration: socketConfiguration, eventLoopGroup: eventLoopGroup, logger: logger, onEvent: { [inbox] event in inbox.receive(event) })
        executor = EventLoopExecutor(socket.eventLoop)
        service.queue.addWorker(
            JobQueue.Taker(
                id: ObjectIdentifier(self), notify: { [weak self] in self?.noteJob() }, isAvailable: { [weak self] in self?.isAvailable ?? false },
                canRun: { [weak self] in self?.canRun($0) ?? false }, avoids: { [weak self] in self?.avoids($0) ?? false }))
    }

    package var status: Status {
        let (rotation, version, hasCatalog) = state.withLock { ($0.rotation, $0.version, $0.catalog != nil) }
        let (connection, open) = inbox.report
        let now = ContinuousClock.now
        var isConnected = true
        var unavailableFor: Duration?
        var reason = rotation.fault?.words(at: now)
        var standstill: String?
        if let fault = rotation.fault, fault.isStandstill, let since = rotation.faultySince, !rotation.allows(at: now, open: 0) {
            unavailableFor = now - since
            standstill = fault.cause(at: now)
        }
        if case .disconnected(let since, let why) = connection {
            isConnected = false
            unavailableFor = max(unavailableFor ?? .zero, now - since)
            (reason, standstill) = (why, nil)
        }
        return Status(
            url: configuration.endpoint.description, isConnected: isConnected, unavailableFor: unavailableFor, reason: reason, standstill: standstill, isInRotation: rotation.fault == nil,
            takesJobs: isConnected && rotation.allows(at: now, open: 0), version: version, hasCatalog: hasCatalog, open: open,
            silenceLimit: configuration.silence)
    }

    /// ComfyUI's node classes; nil until they were read for the first time.
    package var catalog: NodeCatalog? { state.withLock { $0.catalog } }

    // MARK: For the queue

    private var isAvailable: Bool { inbox.isConnected && state.withLock { $0.rotation.fault == nil } }

    /// A ComfyUI whose node list could not be read gets everything and judges itself.
    package func canRun(_ job: Job) -> Bool {
        guard let catalog else { return true }
        return catalog.unknownClasses(in: job.submission.workflow).isEmpty
    }

    /// Its last run broke on this device.
    private func avoids(_ job: Job) -> Bool {
        job.attempts.failedDevices.contains(configuration.endpoint.description) && state.withLock { $0.rotation.fault != nil }
    }

    /// Whether another ComfyUI can run the job.
    func hasOther(for job: Job) -> Bool { service.queue.hasTaker(for: job, beside: ObjectIdentifier(self)) }

    // MARK: Life

    package func run() async throws {
        await withTaskCancellationOrGracefulShutdownHandler {
            await withDiscardingTaskGroup { group in
                group.addTask { await self.socket.run() }
                for await _ in signals.stream { attend(in: &group) }
                group.cancelAll()
            }
        } onCancelOrGracefulShutdown: {
            self.signals.finish()
        }
    }

    /// Follows a job that ComfyUI may have: it was given to it by a bridge that has ended since, or by this one before ComfyUI was away
    /// for long. As with `run`, but first ComfyUI is asked how it stands with the job. It takes up a slot from now on.
    package func adopt(_ job: Job) {
        let channel = inbox.open(job.id)
        state.withLock { $0.adopted.append((job, channel)) }
        wake()
    }

    /// Something may let a job be taken.
    func wake() { signals.send() }

    /// A job waits in the queue.
    private func noteJob() {
        if !inbox.isConnected { socket.connectNow() }
        wake()
    }

    private func attend(in group: inout DiscardingTaskGroup) {
        if signals.take(.disconnected) {
            finishAttempt()
            tellQueueOfAbsence()
            if startsAbsenceWatch() { group.addTask { await self.watchAbsence() } }
        }
        if signals.take(.connected) {
            finishAttempt()
            for job in service.queue.jobs where canRun(job) { job.noteReturn() }
            group.addTask { await self.readNodeList() }
            state.withLock { $0.rotation.connected(at: .now) }
            group.addTask { await self.readQueueIfStuck() }
            for job in reclaimed() { group.addTask { await self.removeForGood(job) } }
        }
        if inbox.withRegistration({ $0.startsWatch() }) { group.addTask { await self.watchRegistration() } }
        if startsRotationWatch() { group.addTask { await self.watchRotation() } }
        let adopted = state.withLock { state in
            defer { state.adopted = [] }
            return state.adopted
        }
        for (job, channel) in adopted { start(job, channel, .adopt, in: &group) }
        while let (job, channel) = takeJob() { start(job, channel, .submit, in: &group) }
    }

    private func start(_ job: Job, _ channel: PromptInbox.Channel, _ entry: Entry, in group: inout DiscardingTaskGroup) {
        group.addTask(executorPreference: executor) {
            await self.attempt(job, channel, entry)
            self.wake()
        }
    }

    private func takeJob() -> (Job, PromptInbox.Channel)? {
        let (open, inside) = (inbox.openCount, inbox.insideCount)
        let isConnected = inbox.isConnected
        let (isAllowed, isSubmitting) = state.withLock { ($0.rotation.allows(at: .now, open: open), $0.submitting != nil) }
        let worker = ObjectIdentifier(self)
        service.queue.setIdle(isConnected && isAllowed && inside == 0, worker: worker)
        guard isConnected, isAllowed, inside < configuration.slots, open < configuration.slots + configuration.settling, !isSubmitting,
            let job = service.queue.take(isSecond: inside > 0, by: worker)
        else { return nil }
        service.queue.setIdle(false, worker: worker)
        state.withLock { state in
            state.submitting = job.id
            state.rotation.gave()
        }
        return (job, inbox.open(job.id))
    }

    /// The job is inside ComfyUI, or others need not wait for it.
    func hasSubmitted(_ job: Job) {
        state.withLock { if $0.submitting == job.id { $0.submitting = nil } }
        wake()
    }

    // MARK: Node classes

    /// Reads what ComfyUI is and which nodes it has: after every connect, since it may have been restarted with others.
    private func readNodeList() async {
        var isFirst = true
        while !(await hasReadNodeList(isFirst: isFirst)), inbox.isConnected {
            isFirst = false
            do { try await Task.sleep(for: configuration.registrationLimit) } catch { return }
        }
    }

    func hasReadNodeList(isFirst: Bool = true) async -> Bool {
        defer { wake() }
        do throws(ComfyUIError) {
            let version = try await client.systemStats()["system"]?["comfyui_version"]?.string
            let replaced = Set(try await client.nodeReplacements().names)
            let catalog = NodeCatalog(objectInfo: try await client.objectInfo(), replaced: replaced, fileRules: configuration.fileRules)
            state.withLock { ($0.version, $0.catalog) = (version, catalog) }
            logger.info("read the node list", metadata: ["comfy.version": "\(version ?? "unknown")", "classes": .stringConvertible(catalog.classes.count)])
            return true
        } catch {
            // It is tried again every few seconds.
            logger.log(
                level: isFirst && error != .cancelled ? .warning : .debug,
                "the node list could not be read; until it is, workflows are checked by ComfyUI alone", metadata: ["error": "\(NetworkWords.of(error))"])
            return false
        }
    }

    /// Reads one class that is not in the catalog yet, as after the installation of a node pack.
    func readClass(_ name: Name) async {
        do {
            guard let info = try await client.objectInfo(class: name.text) else { return }
            state.withLock { $0.catalog?.add(name.text, info) }
        } catch {
            logger.debug("a class could not be read", metadata: ["class": "\(name)", "error": "\(NetworkWords.of(error))"])
        }
    }
}

/// Tells a worker that there is something to do. Of several calls before it looks it notices one, which is enough.
private final class Signals: Sendable {
    package enum Change: Sendable {
        /// ComfyUI is connected, again or for the first time.
        case connected
        /// A connection, or an attempt to make one, has ended.
        case disconnected
    }

    package let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation
    private let changes = Mutex<Set<Change>>([])
    private let hasFinished = Atomic(false)

    init() { (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1)) }

    package func send(_ change: Change? = nil) {
        if let change { changes.withLock { _ = $0.insert(change) } }
        continuation.yield()
    }

    package func take(_ change: Change) -> Bool { changes.withLock { $0.remove(change) != nil } }
    var isFinished: Bool { hasFinished.load(ordering: .acquiring) }

    package func finish() {
        hasFinished.store(true, ordering: .releasing)
        continuation.finish()
    }
}
