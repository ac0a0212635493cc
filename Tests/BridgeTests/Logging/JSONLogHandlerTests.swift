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

    @Test func numbersAreNumbersOfAnyKind() throws {
        let line = try #require(
            logged {
                $0.info(
                    "m",
                    metadata: [
                        "a": .stringConvertible(UInt16(8189)), "b": .stringConvertible(UInt64.max), "c": .stringConvertible(Int8(-3)), "d": .stringConvertible(Float(0.5)), "e": .stringConvertible(1.25),
                        "f": .stringConvertible(false), "g": "12",
                    ])
            }.first)
        #expect(String(decoding: line, as: UTF8.self).contains(#""a":8189,"b":18446744073709551615,"c":-3,"d":0.5,"e":1.25,"f":false,"g":"12""#))
    }

    @Test func nothingIsASeparatorOrAnOrderToATerminal() throws {
        let text = "\u{85}\u{2028}\u{2029}\u{9b}31m\u{202e}\u{2066}\u{7f}\u{feff}\u{e0041}"
        let line = String(decoding: try #require(logged { $0.error("\(text)", metadata: ["\(text)": "\(text)"]) }.first), as: UTF8.self)
        #expect(line.dropLast().utf8.allSatisfy { (0x20...0x7E).contains($0) })
        #expect(line.contains(#"\u0085\u2028\u2029\u009b31m\u202e\u2066\u007f\ufeff\udb40\udc41"#))
        #expect(try JSON(parsing: line)["message"]?.string == text)
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
