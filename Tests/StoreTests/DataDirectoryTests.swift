import Foundation
import Testing

@testable import Store
@testable import TestSupport

@Suite struct DataDirectoryTests {
    @Test func oneBridgeAtATime() async throws {
        try await withTemporaryFolder { folder in
            let first = try DataDirectory(path: folder)
            let error = #expect(throws: DataDirectoryError.self) { try DataDirectory(path: folder) }
            #expect(error?.description.contains("process \(getpid())") == true && error?.description.contains("--data-dir") == true)
            first.release()
            first.release()
            _ = try DataDirectory(path: folder)
        }
    }

    @Test("Places that cannot be written to", arguments: ["/proc/nothing", "/dev/null/x", "/dev/null"]) func unusable(_ path: String) throws {
        let error = #expect(throws: DataDirectoryError.self) { try DataDirectory(path: path) }
        #expect(error?.description.contains("--data-dir '\(path)'") == true && error?.description.contains("none") == true)
    }
}
