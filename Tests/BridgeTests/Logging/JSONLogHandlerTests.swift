import Foundation
import Logging
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@testable import Bridge

@Suite struct JSONLogHandlerTests {
    private final class Lines: Sendable {
        let lines = Mutex<[[UInt8]]>([])
    }

    private func logged(_ body: (Logger) -> Void) -> [[UInt8]] {
        let lines = Lines()
        var logger = Logger(label: "test") { label in
            JSONLogHandler(label: label, write: { line in lines.lines.withLock { $0.append(line) } }, now: { Date(timeIntervalSince1970: 1_795_517_731.25) })
        }
        logger.logLevel = .trace
        body(logger)
        return lines.lines.withLock(\.self)
    }

    @Test func anEntryIsOneLineWithItsMetadataAsMembers() throws {
        let lines = logged { logger in
            var logger = logger
            logger[metadataKey: "comfy.url"] = "http://a"
            logger.info("job ended", metadata: ["queue_ms": .stringConvertible(12), "job.id": "x", "list": ["a", ["b": .stringConvertible(true)]]])
        }
        #expect(
            lines.map { String(decoding: $0, as: UTF8.self) } == [
                #"{"time":"2026-11-24T10:55:31.250Z","level":"info","label":"test","message":"job ended","comfy.url":"http://a","job.id":"x","#
                    + #""list":["a",{"b":true}],"queue_ms":12}"# + "\n"
            ])
    }

    @Test func nothingBreaksALine() throws {
        let text = "a\nb\r\t\"\\\u{0}\u{1b}[31m\u{2028}é😀"
        let lines = logged { $0.error("\(text)", metadata: ["\(text)": "\(text)"]) }
        let line = try #require(lines.first)
        #expect(line.filter { $0 == UInt8(ascii: "\n") }.count == 1)
        let entry = try JSON(parsing: line)
        #expect(entry["message"]?.string == text)
        #expect(entry[text]?.string == text)
    }

    @Test func metadataDoesNotTakeThePlaceOfTheOwnMembers() throws {
        let line = try #require(logged { $0.debug("m", metadata: ["message": "theirs", "time": "never"]) }.first)
        let entry = try JSON(parsing: line)
        #expect(entry["message"] == "m")
        #expect(entry["metadata.message"] == "theirs")
        #expect(entry["metadata.time"] == "never")
    }

    @Test func metadataOfACopyIsItsOwn() throws {
        let lines = logged { logger in
            var copy = logger
            copy[metadataKey: "a"] = "1"
            logger.info("first")
            copy.info("second")
        }
        #expect(try lines.map { try JSON(parsing: $0)["a"]?.string } == [nil, "1"])
    }
}
