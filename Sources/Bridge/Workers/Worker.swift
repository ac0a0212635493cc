import AsyncHTTPClient
import ComfyUI
import Foundation
import Logging
import NIOCore
import OrderedCollections
import OrderedJSON
import ServiceLifecycle
import Synchronization

/// Owns one ComfyUI: keeps its socket, takes jobs from the queue, runs each to its end.
final class Worker: Service {
    struct Configuration: Sendable {
        let endpoint: ComfyEndpoint
        /// How often a job whose run was lost is run again.
        var retries = 1
        /// From the start of execution, for jobs that name none; nil is unlimited.
        var jobTimeout: Duration? = nil
        /// Prompts inside ComfyUI at the same time: one runs, one waits, so that ComfyUI is never idle between jobs and order
        /// and cancellation stay the bridge's.
        var slots = 2
        /// After this time without a message about an open prompt ComfyUI's books are asked.
        var silence = Duration.seconds(10)
        /// After this time without a connection an open run counts as lost.
        var patience = Duration.seconds(60)
        /// `extra_data.preview_method`: asks for previews also where ComfyUI was started without.
        var previewMethod = "auto"

        init(endpoint: ComfyEndpoint) { self.endpoint = endpoint }
    }

    struct Status: Sendable {
        let endpoint: ComfyEndpoint
        let isConnected: Bool
        /// Nil while connected.
        let disconnectedFor: Duration?
        let reason: String?
        let version: String?
        let hasCatalog: Bool
        let openPrompts: Int
    }

    let configuration: Configuration
    let client: ComfyUIClient
    let service: JobService
    let previewFiles: PreviewFiles?
    /// The files that jobs read, inside this ComfyUI.
    let inputFiles: InputFiles
    let inbox: PromptInbox
    let logger: Logger
    /// ComfyUI sends a prompt's messages only to the socket with the id it was submitted under.
    let clientID = JobID.makeUUID()

    let socket: EventSocket
    private let signals: AsyncStream<Signal>
    private let signal: AsyncStream<Signal>.Continuation
    /// The job that ComfyUI is being given. The next waits for that: requests side by side arrive in any order, and the queue's is to count.
    private let submitting = Mutex<JobID?>(nil)
    private let node = Mutex<(version: String?, catalog: NodeCatalog?)>((nil, nil))

    /// Something that may let a job be taken, or a reason to read ComfyUI's node list.
    private enum Signal { case look, connected }

    init(configuration: Configuration, service: JobService, previewFiles: PreviewFiles?, httpClient: HTTPClient, eventLoopGroup: any EventLoopGroup, logger: Logger) {
        var logger = logger
        logger[metadataKey: "comfy.url"] = "\(configuration.endpoint)"
        self.logger = logger
        self.configuration = configuration
        self.service = service
        self.previewFiles = previewFiles
        client = ComfyUIClient(endpoint: configuration.endpoint, httpClient: httpClient, logger: logger)
        inputFiles = InputFiles(client: client, logger: logger)
        // Signals say "look again"; sixteen waiting ones say it loudly enough.
        let (signals, signal) = AsyncStream.makeStream(of: Signal.self, bufferingPolicy: .bufferingNewest(16))
        self.signals = signals
        self.signal = signal
        inbox = PromptInbox { [logger] connection in
            switch connection {
            case .connected:
                logger.info("connected to ComfyUI")
                service.metrics.connected(to: configuration.endpoint)
                signal.yield(.connected)
            case .disconnected(_, let reason):
                logger.info("not connected to ComfyUI", metadata: ["reason": "\(reason)"])
                signal.yield(.look)
            }
        }
        socket = EventSocket(
            configuration: .init(endpoint: configuration.endpoint, clientID: clientID), eventLoopGroup: eventLoopGroup, logger: logger,
            onEvent: { [inbox] event in inbox.receive(event) })
        service.queue.addWorker { signal.yield(.look) }
    }

    var status: Status {
        let node = node.withLock { $0 }
        switch inbox.connection {
        case .connected:
            return Status(
                endpoint: configuration.endpoint, isConnected: true, disconnectedFor: nil, reason: nil, version: node.version,
                hasCatalog: node.catalog != nil, openPrompts: inbox.openCount)
        case .disconnected(let since, let reason):
            return Status(
                endpoint: configuration.endpoint, isConnected: false, disconnectedFor: .now - since, reason: reason, version: node.version,
                hasCatalog: node.catalog != nil, openPrompts: inbox.openCount)
        }
    }

    /// ComfyUI's node classes; nil until they were read for the first time.
    var catalog: NodeCatalog? { node.withLock { $0.catalog } }

    func run() async throws {
        await withTaskCancellationOrGracefulShutdownHandler {
            await withDiscardingTaskGroup { group in
                group.addTask { await self.socket.run() }
                for await signal in signals {
                    if case .connected = signal { group.addTask { await self.readNodeList() } }
                    while let (job, channel) = takeJob() {
                        group.addTask {
                            await self.run(job, channel)
                            self.signal.yield(.look)
                        }
                    }
                }
                group.cancelAll()
            }
        } onCancelOrGracefulShutdown: {
            self.signal.finish()
        }
    }

    private func takeJob() -> (Job, PromptInbox.Channel)? {
        let open = inbox.openCount
        let isConnected = inbox.isConnected
        service.queue.setIdle(isConnected && open == 0, worker: ObjectIdentifier(self))
        guard isConnected, open < configuration.slots, submitting.withLock({ $0 == nil }),
            let job = service.queue.take(isSecond: open > 0)
        else { return nil }
        service.queue.setIdle(false, worker: ObjectIdentifier(self))
        submitting.withLock { $0 = job.id }
        return (job, inbox.open(job.id))
    }

    /// The job is inside ComfyUI, or others need not wait for it.
    func hasSubmitted(_ job: Job) {
        submitting.withLock { if $0 == job.id { $0 = nil } }
        signal.yield(.look)
    }

    /// Reads what ComfyUI is and which nodes it has: after every connect, since it may have been restarted with others.
    private func readNodeList() async {
        do {
            let version = try await client.systemStats()["system"]?["comfyui_version"]?.string
            let replaced = Set(try await client.nodeReplacements().keys)
            let catalog = NodeCatalog(objectInfo: try await client.objectInfo(), replaced: replaced)
            node.withLock { $0 = (version, catalog) }
            logger.info("read the node list", metadata: ["comfy.version": "\(version ?? "unknown")", "classes": "\(catalog.classes.count)"])
        } catch {
            logger.warning("the node list could not be read; workflows are checked by ComfyUI alone", metadata: ["error": "\(error)"])
        }
    }

    /// Reads one class that is not in the catalog yet, as after the installation of a node pack.
    func readClass(_ name: String) async {
        do {
            guard let info = try await client.objectInfo(class: name) else { return }
            node.withLock { $0.catalog?.add(name, info) }
        } catch {
            logger.debug("a class could not be read", metadata: ["class": "\(name)", "error": "\(error)"])
        }
    }
}
