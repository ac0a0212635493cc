import Foundation
import Logging
import Testing

@testable import Bridge

@Suite struct RoutesTests {
    /// `METHOD /path` of everything under `paths:` in openapi.yaml; HEAD comes with every GET.
    private func documented() throws -> Set<String> {
        let file = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../../openapi.yaml").standardizedFileURL
        var routes: Set<String> = []
        var path = ""
        for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
            if let match = line.wholeMatch(of: #/  (/\S*):/#) { path = String(match.output.1) }
            if let match = line.wholeMatch(of: #/    (get|head|post|put|patch|delete|options):/#) { routes.insert("\(match.output.1.uppercased()) \(path)") }
        }
        return routes
    }

    @Test func theDocumentListsExactlyTheRoutes() throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let blobs = try BlobStore(directory: nil, logger: logger)
        defer { blobs.removeTemporaryDirectory() }
        let assets = AssetService(store: MemoryAssetStore(), blobs: blobs, retention: nil, inUse: { [] }, logger: logger)
        let service = JobService(configuration: .init(), store: MemoryJobStore(), assets: assets, previewFiles: nil, logger: logger)
        let tasks = BackgroundTasks()
        let api = API(
            service: service, assets: assets, pool: WorkerPool(workers: [], service: service, grace: .zero), keys: IdempotencyKeys(),
            uploadKeys: IdempotencyKeys(), content: AssetContent(tasks: tasks, logger: logger), tasks: tasks, heartbeats: Heartbeats(interval: .seconds(1)),
            access: AccessGuard(AccessConfiguration()), publicURL: nil)
        let routes = Set(Routes.all(api).map { "\($0.method) \($0.path)" })
        #expect(try documented() == routes)
    }
}
