/// The files of the page at `/` and the API description, embedded in the binary.
package enum Playground {
    package static let indexHTML = PackageResources.index_html
    package static let script = PackageResources.app_js
    package static let styleSheet = PackageResources.style_css
    package static let openAPI = PackageResources.openapi_yaml
}
