import Foundation
import Logging
import Testing

@testable import Bridge

extension API {
    /// With an empty store and nobody to run a job.
    init(withoutComfyUI files: OutputFiles, logger: Logger) {
        let service = JobService(configuration: .init(), store: MemoryJobStore(), files: files, logger: logger)
        let tasks = BackgroundTasks()
        self.init(
            service: service, pool: WorkerPool(workers: [], service: service, grace: .zero), keys: IdempotencyKeys(),
            content: AssetContent(tasks: tasks, logger: logger), tasks: tasks, heartbeats: Heartbeats(interval: .seconds(1)), publicURL: nil, sdkHold: .zero)
    }
}

@Suite struct RoutesTests {
    /// `METHOD /path` of everything under `paths:` in openapi.yaml; HEAD comes with every GET.
    private func documented() throws -> Set<String> {
        let file = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../../openapi.yaml").standardizedFileURL
        var routes: Set<String> = []
        var path = ""
        for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
            if let match = line.wholeMatch(of: #/  (/\S*):/#) { path = String(match.output.1) }
            if let match = line.wholeMatch(of: #/    (get|post|put|patch|delete|options):/#) { routes.insert("\(match.output.1.uppercased()) \(path)") }
        }
        return routes
    }

    @Test func theDocumentListsExactlyTheRoutes() throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let files = try OutputFiles(directory: nil, previewDirectory: nil, logger: logger)
        defer { files.removeTemporaryDirectory() }
        let routes = Set(Routes.all(API(withoutComfyUI: files, logger: logger)).map { "\($0.method) \($0.path)" })
        #expect(try documented() == routes)
    }
}
