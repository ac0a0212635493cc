package import API
import AsyncHTTPClient
@testable import Jobs
import Logging
@testable import Store
@testable import Workers

/// With empty stores and nobody to run a job.
package func withAPI(sdkHold: Duration = .zero, _ body: (API) async throws -> Void) async throws {
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let blobs = try FileBlobStore(directory: nil, logger: logger)
    defer { blobs.removeTemporaryDirectory() }
    let clients = ClientDirectory(endpoints: [], httpClient: .shared, logger: logger)
    let metrics = Metrics()
    let assets = AssetService(store: MemoryAssetStore(), blobs: blobs, comfyFiles: clients, retention: nil, inUse: { [] }, logger: logger)
    let service = JobService(configuration: .init(), store: MemoryJobs(), assets: assets, previewFiles: nil, metrics: metrics, logger: logger)
    let tasks = BackgroundTasks()
    try await body(
        API(
            service: service, assets: assets, pool: WorkerPool(workers: [], service: service, grace: .zero),
            uploadKeys: IdempotencyKeys(.upload, store: nil), content: AssetContent(clients: clients, tasks: tasks, sent: Counter(), logger: logger), tasks: tasks, heartbeats: Heartbeats(interval: .seconds(1)),
            access: AccessGuard(AccessConfiguration()), publicURL: nil, sdkHold: sdkHold,
            drain: Drain(keepsJobs: false, logger: logger), metrics: metrics, serverCounts: ServerCounts(), version: "1.0.0"))
}
