import API
package import AsyncHTTPClient
import ComfyUI
import Glibc
import Jobs
package import Logging
import MicroHTTP
package import NIOCore
import ServiceLifecycle
import Store
package import UnixSignals
import Wording
import Workers

/// The composition root: builds all services of the bridge and runs them together.
package struct ComfyBridge: Sendable {
    package static let version = "0.1.0"

    private let server: HTTPServer
    private let workers: [Worker]
    private let services: [any Service]
    private let storage: Storage
    private let previewFiles: PreviewFiles?
    private let service: JobService
    private let drainTimeout: Duration
    private let logger: Logger

    /// - Parameters:
    ///   - httpClient: for ComfyUI's REST routes, made with `BridgeConfiguration.httpClient`; the caller shuts it down.
    ///   - eventLoopGroup: for the event sockets; must outlive `run()`.
    package init(configuration: BridgeConfiguration, httpClient: HTTPClient, eventLoopGroup: any EventLoopGroup, logger: Logger) throws {
        self.logger = logger
        drainTimeout = configuration.http.drainTimeout
        do {
            storage = try Storage(directory: configuration.dataDirectory, previewHistory: configuration.jobs.previewHistory, logger: logger)
        } catch let error as DataDirectoryError {
            throw ConfigurationError(error.description)
        }

        let metrics = Metrics()
        let clients = ClientDirectory(endpoints: configuration.workers.map(\.endpoint), httpClient: httpClient, logger: logger)
        previewFiles = try configuration.previewDirectory.map { path in
            do { return try PreviewFiles(directory: path, logger: logger) } catch {
                throw ConfigurationError("--preview-dir '\(path)' cannot be used: \(NetworkWords.of(error)). Name a folder that this user may write to.")
            }
        }
        let assets = AssetService(
            store: storage.assets, blobs: storage.blobs, comfyFiles: clients, retention: configuration.assetRetention,
            inUse: { [jobs = storage.jobs] in try await jobs.assetsInUse() }, logger: logger)
        let service = JobService(
            configuration: configuration.jobs, store: storage.jobs, keys: IdempotencyKeys(.job, store: storage.keys), assets: assets, previewFiles: previewFiles,
            metrics: metrics, logger: logger)
        self.service = service
        workers = try configuration.workers.map { [identities = storage.identities, previewFiles] worker in
            Worker(
                configuration: worker, clientID: try identities.clientID(for: worker.endpoint.description), service: service, metrics: metrics, previewFiles: previewFiles,
                clients: clients, eventLoopGroup: eventLoopGroup, logger: logger)
        }
        let pool = WorkerPool(workers: workers, service: service, grace: configuration.upstreamGrace)
        let tasks = BackgroundTasks()
        let heartbeats = Heartbeats(interval: configuration.heartbeat)
        let drain = Drain(keepsJobs: configuration.dataDirectory != nil, logger: logger)
        let access = AccessGuard(configuration.access)
        for warning in configuration.warnings { logger.warning("\(warning)") }
        let serverCounts = ServerCounts()
        let api = API(
            service: service, assets: assets, pool: pool, uploadKeys: IdempotencyKeys(.upload, store: storage.keys),
            content: AssetContent(clients: clients, tasks: tasks, sent: metrics.sent[.asset], logger: logger), tasks: tasks, heartbeats: heartbeats, access: access,
            publicURL: configuration.publicURL, sdkHold: configuration.sdkHold, drain: drain, metrics: metrics, serverCounts: serverCounts, version: Self.version)
        let router = Router(
            routes: Routes.all(api), access: access, mount: configuration.publicURL?.path ?? "", drain: drain, bodyLimit: configuration.bodyLimit,
            uploadLimit: configuration.uploadLimit, logger: logger)
        server = HTTPServer(
            configuration: OpenFiles.limit(configuration.http, logger: logger), logger: logger, failure: { router.response(to: $0, headers: $1) },
            admit: { router.admit($0) })
        serverCounts.attach(router.requests, openConnections: { [weak server] in server?.openConnections ?? 0 })
        // Started in this order and stopped in the reverse one: the server first, while ComfyUI is still there for what runs.
        services = [storage, service, assets, pool] + workers + [tasks, heartbeats, server, drain]
    }

    /// What a process does first in which a bridge is all there is.
    package static func prepareProcess() {
        Allocator.keepsBulk()
        Allocator.limitsHeaps()
        OpenFiles.raiseLimit()
        // A pipe without a reader and a file at its limit are errors of one write, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        signal(SIGXFSZ, SIG_IGN)
    }

    /// Takes up what a former process left, then binds and listens; requests are answered once `run()` is called. Returns the port.
    package func start() async throws -> UInt16 {
        try await restore()
        return try server.start()
    }

    /// Runs until the signals ask for the end, or the task is cancelled.
    package func run(gracefulShutdownSignals: [UnixSignal] = []) async throws {
        do {
            try await runServices(gracefulShutdownSignals)
        } catch {
            await close()
            throw error
        }
        await close()
    }

    private func close() async {
        await previewFiles?.flush()
        await storage.close()
    }

    private func restore() async throws {
        try await service.restore { job, endpoint in
            guard let worker = workers.first(where: { $0.configuration.endpoint.description == endpoint }) else { return false }
            worker.adopt(job)
            return true
        }
    }

    private func runServices(_ gracefulShutdownSignals: [UnixSignal]) async throws {
        // The server may use up its time; the others then have moments to say goodbye to ComfyUI and to close files.
        let limit = drainTimeout + .seconds(3)
        var services = services
        if !gracefulShutdownSignals.isEmpty {
            services.append(LastResort(limit: limit + .seconds(2), signals: gracefulShutdownSignals, logger: logger))
        }
        var configuration = ServiceGroupConfiguration(services: services, gracefulShutdownSignals: gracefulShutdownSignals, logger: logger)
        configuration.maximumGracefulShutdownDuration = limit
        try await ServiceGroup(configuration: configuration).run()
    }
}
