import NIOCore
import OrderedCollections
import OrderedJSON
import PreviewStamp

/// A blocking `POST /run` on a kept connection.
final class BridgeCaller: JobCaller {
    private let connection: HTTPConnection
    private let fetchesOutput: Bool
    private var target: Target { connection.target }

    /// - Parameter fetchesOutput: whether the picture is downloaded and looked at, behind the end of the measured time.
    init(_ target: Target, fetchesOutput: Bool, on loop: any EventLoop) {
        connection = HTTPConnection(target, on: loop)
        self.fetchesOutput = fetchesOutput
    }

    func close() { connection.close() }

    func run(_ graph: [UInt8]) async throws -> JobOutcome {
        let answer = try await connection.send("POST", target.path + "/run", [("Content-Type", "application/json")], body: graph)
        let end = MonotonicClock.now
        guard answer.status == 200 else {
            guard [429, 503].contains(answer.status) else { throw ProtocolViolation("status \(answer.status): \(answer.text)") }
            return .refused(status: answer.status)
        }
        let job = try JSON(parsing: answer.body)
        guard job["status"]?.string == "succeeded", let outputs = job["outputs"]?.array, outputs.count == 1,
            let size = outputs[0]["size_bytes"]?.int, size > 0, let link = outputs[0]["url"]?.string
        else { throw ProtocolViolation("not one output of a job that succeeded: \(answer.text)") }
        if fetchesOutput { try await fetch(link, size: size) }
        return .succeeded(at: end)
    }

    private func fetch(_ link: String, size: Int) async throws {
        let answer = try await connection.send("GET", Target.path(of: link))
        guard answer.status == 200 else { throw ProtocolViolation("output: status \(answer.status): \(answer.text)") }
        guard answer.body.count == size else { throw ProtocolViolation("output: \(answer.body.count) bytes instead of \(size)") }
        guard PNGFile.isWhole(answer.body) else { throw ProtocolViolation("output: it is no whole PNG") }
    }
}

enum PNGFile {
    /// The signature, then chunks without a gap, of which the last is `IEND`.
    static func isWhole(_ file: [UInt8]) -> Bool {
        guard file.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else { return false }
        var offset = 8
        while offset + 12 <= file.count {
            let length = file[offset..<offset + 4].reduce(0) { $0 << 8 + Int($1) }
            let isLast = file[offset + 4..<offset + 8].elementsEqual("IEND".utf8)
            offset += 12 + length
            if isLast { return offset == file.count }
        }
        return false
    }
}
