# The wheel's targets write this machine's folder into what links them. A bundle is found by its digest, so equal sources
# must give equal files wherever they are built.
foreach(component runtime threadpool kernels_optimized kernels_quantized backend_xnnpack)
  get_target_property(options executorch::${component} INTERFACE_LINK_OPTIONS)
  if(options)
    list(FILTER options EXCLUDE REGEX "-rpath,/")
    set_target_properties(executorch::${component} PROPERTIES INTERFACE_LINK_OPTIONS "${options}")
  endif()
endforeach()
