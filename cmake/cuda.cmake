# SPDX-License-Identifier: MIT
# src/backend/cuda, when asked for. The launchers in *.cu are extern "C" and free of C++ run-time
# support, so that the C linker joins everything. CMAKE_CUDA_ARCHITECTURES chooses the GPUs, as
# "80;90" or native; the newest named one also runs what comes after it.
set(ZSEM_EXTRA_LIBRARIES)
if(ZSEM_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  if(CMAKE_CUDA_ARCHITECTURES MATCHES "(^|;)[1-7][0-9](-|;|$)")
    message(FATAL_ERROR "zsem needs GPUs of compute capability 8.0 or newer, not "
      "CMAKE_CUDA_ARCHITECTURES=${CMAKE_CUDA_ARCHITECTURES}")
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit 12.3 REQUIRED)
  find_path(ZSEM_CUDNN_INCLUDE cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(ZSEM_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT ZSEM_CUDNN_INCLUDE OR NOT ZSEM_CUDNN_LIBRARY)
    message(FATAL_ERROR "the CUDA backend needs cuDNN 9: cudnn_graph.h or libcudnn is missing; "
      "install it, or name its folders in ZSEM_CUDNN_INCLUDE and ZSEM_CUDNN_LIBRARY")
  endif()

  file(GLOB ZSEM_CUDA_SOURCES CONFIGURE_DEPENDS src/backend/cuda/*.cu)
  add_library(zsem_cuda OBJECT ${ZSEM_CUDA_SOURCES})
  target_include_directories(zsem_cuda PRIVATE src)
  set_target_properties(zsem_cuda PROPERTIES CUDA_STANDARD 17 CUDA_VISIBILITY_PRESET hidden
    POSITION_INDEPENDENT_CODE ON)
  target_compile_options(zsem_cuda PRIVATE -Xcompiler
    -Wall,-fno-threadsafe-statics,-fno-exceptions,-fno-rtti
    $<$<BOOL:${ZSEM_WERROR}>:-Werror=all-warnings>)
  target_link_libraries(zsem_cuda PRIVATE zsem_flags)
  list(APPEND ZSEM_EXTRA_OBJECTS $<TARGET_OBJECTS:zsem_cuda>)
  list(APPEND ZSEM_EXTRA_LIBRARIES CUDA::cudart_static CUDA::cublasLt ${ZSEM_CUDNN_LIBRARY})

  file(GLOB ZSEM_CUDA_GLUE CONFIGURE_DEPENDS src/backend/cuda/*.c)
  target_sources(zsem_objects PRIVATE ${ZSEM_CUDA_GLUE})
  target_include_directories(zsem_objects SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS}
    ${ZSEM_CUDNN_INCLUDE})
  target_compile_definitions(zsem_objects PUBLIC ZSEM_HAVE_CUDA=1)
endif()
