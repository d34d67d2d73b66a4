# SPDX-License-Identifier: MIT
# zsem-mpi.so, which the program loads when mpirun or srun started it: nothing else, neither the
# libraries nor who links them, depends on MPI.
set(ZSEM_MPI AUTO CACHE STRING "build the MPI module: ON, OFF, or AUTO (when an MPI is installed)")
set(ZSEM_HAVE_MPI OFF)
if(ZSEM_MPI)
  # Open MPI, then MPICH as Debian calls it
  pkg_search_module(MPI QUIET IMPORTED_TARGET ompi-c mpich mpi)
  set(ZSEM_HAVE_MPI ${MPI_FOUND})
  if(NOT MPI_FOUND AND NOT ZSEM_MPI STREQUAL AUTO)
    message(FATAL_ERROR "ZSEM_MPI is on and no MPI is found: install libopenmpi-dev")
  endif()
endif()
set_source_files_properties(src/comm/world.c PROPERTIES COMPILE_DEFINITIONS
  "ZSEM_LIBDIR=\"${CMAKE_INSTALL_LIBDIR}\";ZSEM_MODULEDIR=\"${CMAKE_INSTALL_FULL_LIBDIR}/zsem\"")
if(ZSEM_HAVE_MPI)
  message(STATUS "zsem: MPI ${MPI_VERSION} for runs on several machines")
  add_library(zsem_mpi MODULE src/comm/mpi/module.c)
  set_target_properties(zsem_mpi PROPERTIES PREFIX "" OUTPUT_NAME zsem-mpi)
  target_include_directories(zsem_mpi PRIVATE src)
  target_link_libraries(zsem_mpi PRIVATE zsem_flags PkgConfig::MPI)
  install(TARGETS zsem_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/zsem)
endif()

# NCCL adds gradients up in the memory of GPUs; without it they take the way through the program's.
if(ZSEM_HAVE_MPI AND ZSEM_CUDA)
  find_path(ZSEM_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(ZSEM_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(ZSEM_NCCL_INCLUDE AND ZSEM_NCCL_LIBRARY)
    set_source_files_properties(src/comm/nccl.c PROPERTIES COMPILE_DEFINITIONS ZSEM_HAVE_NCCL=1
      INCLUDE_DIRECTORIES "${ZSEM_NCCL_INCLUDE}" COMPILE_OPTIONS "-isystem;${CUDAToolkit_INCLUDE_DIRS}")
    list(APPEND ZSEM_EXTRA_LIBRARIES ${ZSEM_NCCL_LIBRARY})
  else()
    message(STATUS "zsem: no NCCL; ranks with GPUs exchange gradients by MPI")
  endif()
endif()
