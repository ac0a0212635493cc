import Foundation
import OrderedJSON

/// A job that sends stamped previews, and what it takes to send the same without one.
enum PreviewJob {
    /// For the simulator.
    static func graph(frames: Int, rate: Double, size: Int) -> JSON {
        [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 64, "height": 64, "batch_size": 1, "color": 0]],
            "2": [
                "class_type": "SimPreviews",
                "inputs": ["image": ["1", 0], "frames": JSON(frames), "per_second": JSON(rate), "bytes": JSON(size)],
            ],
            "3": JobTemplate.save("2"),
        ]
    }

    /// A gray JPEG of 8 x 8 pixels.
    static let smallPicture = Array(
        Data(
            base64Encoded: """
                /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/\
                wAALCAAIAAgBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEI\
                I0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ip\
                qrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/ACv/2Q==
                """) ?? Data())
}
